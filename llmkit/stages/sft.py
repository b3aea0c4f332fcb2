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
from llmkit.ranks import current
from llmkit.schema import Keyed, Passes, Refers
from llmkit.stage import Context, Facts, Stage
from llmkit.trainers.settings import Optimizer, Patches, trainer_problems

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast
    from trl import SFTConfig

    from llmkit.data.chat.chat_rows import Messages
    from llmkit.trainers.tuning import Rows

# Arguments of SFTConfig that say again, or against, what this stage does.
DATA = "llmkit prepares the rows itself: the loss is on the assistant's words, by the chat template"
TOKENS = "the tokenizer of the model says it"
PADDING = "rows are padded to the longest of their batch"
MEASURE = "add an `evaluate` stage with the task conversation_loss"
REFUSED = {
    "dataset_kwargs": DATA,
    "dataset_text_field": DATA,
    "dataset_num_proc": DATA,
    "assistant_only_loss": DATA,
    "completion_only_loss": DATA,
    "shuffle_dataset": "the rows are shuffled anew each epoch; see train_sampling_strategy",
    "packing": PADDING + "; see train_sampling_strategy",
    "packing_strategy": PADDING,
    "padding_free": PADDING,
    "eval_packing": PADDING,
    "eval_strategy": MEASURE,
    "eval_steps": MEASURE,
    "eval_delay": MEASURE,
    "eval_on_start": MEASURE,
    "per_device_eval_batch_size": MEASURE,
    "load_best_model_at_end": MEASURE,
    "metric_for_best_model": MEASURE,
    "greater_is_better": MEASURE,
    "trust_remote_code": "llmkit loads the model itself, and runs no code that comes with it",
    "chat_template_path": TOKENS,
    "eos_token": TOKENS,
    "pad_token": TOKENS,
}
SAMPLE = 16  # conversations on which the template is tried


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
    together: ClassVar[bool] = True

    model: Annotated[str, Refers("model")]
    dataset: Annotated[list[Any], Keyed("llmkit.data.chat.conversations:CONVERSATIONS")]
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
        # That the loss is on the assistant's words alone may be said: it is so anyway.
        args = {k: v for k, v in self.args.items() if (k, v) != ("assistant_only_loss", True)}
        yield from trainer_problems(
            args, REFUSED, self.patches, self.optimizer, self.tokens_per_step
        )
        length = self.args.get("max_length")
        if length is not None and length < 1:
            yield Problem(("args", "max_length"), f"{length} is not positive")
        if self.max_bad_rows < 0:
            yield Problem(("max_bad_rows",), f"{self.max_bad_rows} is negative")
        if "fused_head_loss" in self.patches:
            remedy = "leave it out: TRL's trainer has its own"
            yield Problem(("patches",), "fused_head_loss does not go with TRL", remedy)

    def files(self) -> Iterator[Path]:
        for source in self.dataset:
            yield from source.files()

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        for source in self.dataset:
            yield from source.hub_data()

    def prepare(self, name: str) -> None:
        """Construct the Hugging Face configs, as the runner asks before the first stage."""
        from llmkit.trainers.launch import check_muon

        check_muon(name, self.optimizer)
        self._arguments(Path("."), 0, {}, name)
        self._peft_config(name)

    def run(self, context: Context) -> dict[str, Any]:
        """Train, and write model, tokenizer and generation_config.json to `context.out`."""
        from llmkit.device import tune_allocator
        from llmkit.model import context_length, load_model, load_tokenizer
        from llmkit.trainers import tuning
        from llmkit.trainers.session import train

        tune_allocator()
        source = context.inputs[self.model]
        tokenizer = load_tokenizer(source, self.revision)
        model = load_model(source, self.revision)
        template = tuning.training_template(tokenizer)
        chats, figures = self._conversations(context)
        length = self._length(context_length(model), context.name)
        keep_end = self.args.get("truncation_mode") == "keep_end"
        rows = tuning.tokenized(tokenizer, template, chats, length, keep_end, context.name)
        tuning.gate_rows(context, tokenizer, template, chats[:SAMPLE], rows, self.max_bad_rows)
        trainer = tuning.Tuner(
            model=model,
            args=self._arguments(context.out, context.seed, self._schedule(rows), context.name),
            context=context,
            optimizer=self.optimizer,
            train_dataset=rows.dataset,
            processing_class=tokenizer,
            peft_config=self._peft_config(context.name, model),
        )
        figures |= train(trainer, self._patches(trainer.model))
        tuned = self._save(trainer, tokenizer, template, context.out)
        figures["ended"] = tuning.gate_stops(context, tuned, tokenizer, chats, length)
        return figures | {
            "conversations": rows.dataset.num_rows,
            "trained_tokens": rows.trained_tokens,
            "truncated": rows.truncated,
            "left_out": rows.untrained,
        }

    def _conversations(self, context: Context) -> tuple[list[Messages], dict[str, Any]]:
        from llmkit.data.chat.conversations import gathered
        from llmkit.data.sources.readers import BadRows

        bad_rows = BadRows(self.max_bad_rows)
        chats = gathered(self.dataset, context.world, context.inputs, context.seed, bad_rows)
        return chats, {"bad_rows": bad_rows.count}

    def _length(self, context: int, name: str) -> int:
        wanted = self.args.get("max_length") or context
        if wanted > context:
            what = f"{wanted} is more than the {context} tokens that the model holds"
            raise UserError(f"{name}.args.max_length", what, "ask for no more")
        return int(wanted)

    def _schedule(self, rows: Rows) -> dict[str, Any]:
        """`gradient_accumulation_steps` for about `tokens_per_step` tokens an update."""
        if self.tokens_per_step is None:
            return {}
        batch = self.args.get("per_device_train_batch_size", 8)
        ranks = current().count
        at_once = batch * ranks * rows.tokens / rows.dataset.num_rows
        return {"gradient_accumulation_steps": max(1, round(self.tokens_per_step / at_once))}

    def _arguments(self, out: Path, seed: int, own: dict[str, Any], name: str) -> SFTConfig:
        from trl import SFTConfig

        from llmkit.trainers.arguments import training_arguments

        given = {key: value for key, value in self.args.items() if key not in REFUSED}
        skip = {"dataset_kwargs": {"skip_prepare_dataset": True}}
        return training_arguments(SFTConfig, given | own | skip, out, seed, f"{name}.args")

    def _patches(self, model: PreTrainedModel) -> str | list[str]:
        """TRL's fused head must stay: its loss reads what only that head returns."""
        from llmkit.patch import automatic_patches

        return automatic_patches(model, own_loss=False) if self.patches == "auto" else self.patches

    def _peft_config(self, name: str, model: PreTrainedModel | None = None) -> Any:
        from llmkit.trainers.adapters import lora_config

        return lora_config(self.peft, name, "CAUSAL_LM", model)

    def _save(
        self, trainer: Any, tokenizer: PreTrainedTokenizerFast, template: str, out: Path
    ) -> PreTrainedModel:
        """Write the model (with `peft`, the adapter and the two merged); return it."""
        from llmkit.trainers.adapters import merged
        from llmkit.trainers.session import save_model
        from llmkit.trainers.tuning import chat_generation, end_of_turn

        if self.peft is not None:
            merged(trainer, out / "adapter", self.model)
        vars(trainer.model).pop("forward", None)  # TRL bound its own on the instance
        closing = end_of_turn(tokenizer, template)
        trainer.model.generation_config = chat_generation(trainer.model, tokenizer, closing)
        save_model(trainer, out)
        return trainer.model
