"""`sft`: a model and conversations to a chat model, by `trl.SFTTrainer`.

The loss is on the assistant's words alone, the token that ends its turn among them: a model that
is never taught to stop does not stop (trl #1623, alignment-handbook #127), and one whose masks are
all zero learns nothing without a word (trl #4879). The gates below measure both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from llmkit.errors import Problem, UserError
from llmkit.schema import Keyed, Passes, Refers
from llmkit.stage import Context, Facts, Stage
from llmkit.trainers.settings import Optimizer, Patches

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast
    from trl import SFTConfig

    from llmkit.data.chat_rows import Messages
    from llmkit.trainers.tuning import Rows

# Arguments of SFTConfig that say again, or against, what this stage does.
DATA = "llmkit prepares the rows itself: the loss is on the assistant's words, by the chat template"
TOKENS = "the tokenizer of the model says it"
REFUSED = {
    "dataset_kwargs": DATA,
    "dataset_text_field": DATA,
    "dataset_num_proc": DATA,
    "assistant_only_loss": DATA,
    "completion_only_loss": DATA,
    "packing": "rows are padded to the longest of their batch; see train_sampling_strategy",
    "padding_free": "rows are padded to the longest of their batch",
    "eval_packing": "rows are padded to the longest of their batch",
    "eval_strategy": "add an `evaluate` stage with the task conversation_loss",
    "chat_template_path": TOKENS,
    "eos_token": TOKENS,
    "pad_token": TOKENS,
}
SAMPLE = 16  # conversations on which template and stopping are tried
MUST_STOP = 0.5  # of the sampled answers; a model that has learnt the format stops nearly always


@dataclass(frozen=True, kw_only=True)
class SFT(Stage):
    """Fine-tune `model` on the conversations of `dataset`.

    Attributes:
        model: an earlier stage, a model folder or a Hub id (with `revision`).
        dataset: sources of conversations, mixed by their weights.
        args: SFTConfig. `max_length` is the model's context where it is not given.
        peft: LoraConfig; then `adapter/` is saved beside the merged model.
        tokens_per_step: tokens (padding left out) that one update sees on average, over all
            ranks; sets `gradient_accumulation_steps`.
        max_bad_rows: bad rows, or conversations too long to hold an answer, that may be left out.
    """

    makes: ClassVar[tuple[str, ...]] = ("model",)
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "trl", "accelerate", "peft")

    model: Annotated[str, Refers("model")]
    dataset: Annotated[list[Any], Keyed("llmkit.data.conversations:CONVERSATIONS")]
    revision: str | None = None
    args: Annotated[dict[str, Any], Passes("trl.SFTConfig")] = field(default_factory=dict)
    peft: Annotated[dict[str, Any] | None, Passes("peft.LoraConfig")] = None
    patches: Patches = "auto"
    optimizer: Optimizer = "adamw"
    tokens_per_step: int | None = None
    max_bad_rows: int = 0

    def facts(self, upstream: Mapping[str, Facts]) -> Facts:
        return upstream.get(self.model, Facts())

    def problems(self, upstream: Mapping[str, Facts]) -> Iterator[Problem]:
        base = upstream.get(self.model, Facts())
        length = self.args.get("max_length")
        if length is not None and base.context_length is not None and length > base.context_length:
            remedy = f"{self.model} holds {base.context_length} tokens: ask for no more"
            yield Problem(("args", "max_length"), f"{length} is too long", remedy)
        if base.chat_template is False:
            remedy = "fine-tune a model whose tokenizer has a chat template"
            yield Problem(("model",), f"the tokenizer of {self.model} has no chat template", remedy)
        if base.pad_token is not None and base.pad_token == base.eos_token:
            remedy = "give the tokenizer a padding token of its own"
            yield Problem(("model",), f"pads with its end of text {base.eos_token}", remedy)
        yield from self._own_problems()

    def _own_problems(self) -> Iterator[Problem]:
        if not self.dataset:
            yield Problem(("dataset",), "is empty", "name at least one source of conversations")
        if len({source.weight is None for source in self.dataset}) > 1:
            remedy = "give every source a weight, or none"
            yield Problem(("dataset",), "some sources have a weight and some have none", remedy)
        for key in self.args:
            if key in REFUSED and not (key == "assistant_only_loss" and self.args[key]):
                yield Problem(("args", key), "has no place here", REFUSED[key])
        if "fused_head_loss" in self.patches:
            remedy = "leave it out: TRL's trainer has its own"
            yield Problem(("patches",), "fused_head_loss does not go with TRL", remedy)
        if self.optimizer != "adamw" and "optim" in self.args:
            what = "stands against `optimizer: muon`"
            yield Problem(("args", "optim"), what, "keep one of the two")
        if self.tokens_per_step is not None and "gradient_accumulation_steps" in self.args:
            what = "sets gradient_accumulation_steps"
            yield Problem(("tokens_per_step",), what, "keep one of the two")

    def files(self) -> Iterator[Path]:
        for source in self.dataset:
            yield from source.files()

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        for source in self.dataset:
            yield from source.hub_data()

    def prepare(self) -> None:
        """Construct the Hugging Face configs, as the runner asks before the first stage."""
        self._arguments(Path("."), 0, {})
        self._peft_config()

    def run(self, context: Context) -> dict[str, Any]:
        """Train, and write model, tokenizer and generation_config.json to `context.out`."""
        from llmkit.device import tune_allocator
        from llmkit.model import context_length, load_model, load_tokenizer
        from llmkit.trainers.session import train
        from llmkit.trainers.tuning import Tuner, gate_rows, tokenized, training_template

        tune_allocator()
        source = context.inputs[self.model]
        tokenizer = load_tokenizer(source, self.revision)
        model = load_model(source, self.revision)
        template = training_template(tokenizer)
        chats, figures = self._conversations(context)
        length = self._length(context_length(model))
        keep_end = self.args.get("truncation_mode") == "keep_end"
        rows = tokenized(tokenizer, template, chats, length, keep_end, context.name)
        gate_rows(context, tokenizer, template, chats[:SAMPLE], rows, self.max_bad_rows)
        trainer = Tuner(
            model=model,
            args=self._arguments(context.out, context.seed, self._schedule(rows)),
            context=context,
            optimizer=self.optimizer,
            train_dataset=rows.dataset,
            processing_class=tokenizer,
            peft_config=self._peft_config(model),
        )
        figures |= train(trainer, self._patches(trainer.model))
        tuned = self._save(trainer, tokenizer, template, context.out)
        figures["ended"] = self._stops(context, tuned, tokenizer, chats)
        return figures | {
            "conversations": rows.dataset.num_rows,
            "trained_tokens": rows.trained_tokens,
            "truncated": rows.truncated,
            "left_out": rows.untrained,
        }

    def _conversations(self, context: Context) -> tuple[list[Messages], dict[str, Any]]:
        from llmkit.data.conversations import gathered
        from llmkit.data.readers import BadRows

        bad_rows = BadRows(self.max_bad_rows)
        chats = gathered(self.dataset, context.world, context.inputs, context.seed, bad_rows)
        return chats, {"bad_rows": bad_rows.count}

    def _length(self, context: int) -> int:
        wanted = self.args.get("max_length") or context
        if wanted > context:
            what = f"{wanted} is more than the {context} tokens that the model holds"
            raise UserError("sft.args.max_length", what, "ask for no more")
        return int(wanted)

    def _schedule(self, rows: Rows) -> dict[str, Any]:
        """`gradient_accumulation_steps` for about `tokens_per_step` tokens an update."""
        import os

        if self.tokens_per_step is None:
            return {}
        batch = self.args.get("per_device_train_batch_size", 8)
        ranks = int(os.environ.get("WORLD_SIZE", "1"))
        at_once = batch * ranks * rows.tokens / rows.dataset.num_rows
        return {"gradient_accumulation_steps": max(1, round(self.tokens_per_step / at_once))}

    def _arguments(self, out: Path, seed: int, own: dict[str, Any]) -> SFTConfig:
        from trl import SFTConfig

        from llmkit.trainers.arguments import training_arguments

        given = {key: value for key, value in self.args.items() if key not in REFUSED}
        # TRL recomputes activations by default, which models that fit need not pay for.
        chosen = "gradient_checkpointing" in given
        defaults: dict[str, Any] = {} if chosen else {"activation_checkpointing": False}
        skip = {"dataset_kwargs": {"skip_prepare_dataset": True}}
        return training_arguments(SFTConfig, defaults | given | own | skip, out, seed, "sft.args")

    def _patches(self, model: PreTrainedModel) -> str | list[str]:
        """TRL's fused head must stay: its loss reads what only that head returns."""
        from llmkit.patch import automatic_patches

        return automatic_patches(model, own_loss=False) if self.patches == "auto" else self.patches

    def _peft_config(self, model: PreTrainedModel | None = None) -> Any:
        """The LoraConfig of `peft:`, or None. GPT-2's layers hold their weights transposed."""
        if self.peft is None:
            return None
        from peft import LoraConfig
        from transformers.pytorch_utils import Conv1D

        given = {"task_type": "CAUSAL_LM"} | self.peft
        if model is not None and any(isinstance(m, Conv1D) for m in model.modules()):
            given = {"fan_in_fan_out": True} | given
        try:
            return LoraConfig(**given)
        except (ValueError, TypeError) as error:
            what = " ".join(str(error).split())
            raise UserError(
                "sft.peft", f"LoraConfig refuses it: {what}", "change these keys"
            ) from error

    def _save(
        self, trainer: Any, tokenizer: PreTrainedTokenizerFast, template: str, out: Path
    ) -> PreTrainedModel:
        """Write the model (with `peft`, the adapter and the two merged); return it."""
        from llmkit.trainers.session import save_model
        from llmkit.trainers.tuning import chat_generation, end_of_turn

        if self.peft is not None and trainer.args.should_save:
            save_adapter(trainer.model, out / "adapter", self.model)
        if self.peft is not None:
            trainer.model = trainer.model.merge_and_unload()
        vars(trainer.model).pop("forward", None)  # TRL bound its own on the instance
        closing = end_of_turn(tokenizer, template)
        trainer.model.generation_config = chat_generation(trainer.model, tokenizer, closing)
        save_model(trainer, out)
        return trainer.model

    def _stops(
        self,
        context: Context,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        chats: list[Messages],
    ) -> float:
        """The share of a sample's questions whose answers end by themselves, greedily."""
        from llmkit.decode import complete
        from llmkit.model import context_length, conversation_ids

        asked = [conversation_ids(tokenizer, chat[:-1], True)[0] for chat in chats[:SAMPLE]]
        answers = [len(conversation_ids(tokenizer, chat)[0]) for chat in chats[:SAMPLE]]
        room = context_length(model) - 1
        prompts = [prompt for prompt in asked if len(prompt) <= room]
        longest = max((a - len(p) for a, p in zip(answers, asked, strict=True)), default=0)
        budget = min(2 * longest + 16, *(room + 1 - len(prompt) for prompt in prompts))
        found = complete(model, tokenizer, prompts, {"max_new_tokens": budget}, seed=context.seed)
        share = sum(ended for _, ended in found) / max(len(found), 1)
        context.gate(
            "generation_stops",
            share >= MUST_STOP,
            round(share, 3),
            f"at least {MUST_STOP} of {len(found)} answers to training questions end by themselves",
            "train longer, or on shorter answers",
        )
        return share


def save_adapter(model: Any, folder: Path, base: str) -> None:
    """The adapter alone, naming its base as the recipe does: PEFT writes an absolute path."""
    import json

    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | {"base_model_name_or_path": base}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
