"""`pretrain`: token shards and a tokenizer to a causal language model, from random weights.

Built on `transformers.Trainer`. Any causal model of `AutoConfig` works; GPT-2 is the default. The
result is a plain model folder, tokenizer included.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from llmkit.errors import Problem, UserError
from llmkit.schema import Passes, Refers
from llmkit.stage import Context, Facts, Stage
from llmkit.trainers.settings import NOTHING, Optimizer, Patches, trainer_problems

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase, TrainingArguments

    from llmkit.data.shards import TokenWindows
    from llmkit.trainers.pretraining import Pretrainer

POSITIONS = ("n_positions", "max_position_embeddings")  # GPT-2's name and everybody else's
REFUSED = {
    "train_sampling_strategy": "the windows of the shards come in an order of their own",
    "dataloader_drop_last": "the windows fill every batch; " + NOTHING,
}
WIDTHS = (("n_embd", 768, "n_head", 12), ("hidden_size", None, "num_attention_heads", None))


@dataclass(frozen=True, kw_only=True)
class Pretrain(Stage):
    """Train a model of `config` on `shards`.

    Attributes:
        config: keys of the model's transformers configuration; `model_type` selects it. The
            vocabulary, context length and special tokens come from tokenizer and shards.
        args: TrainingArguments. One epoch if neither `max_steps` nor `num_train_epochs` is given.
        optimizer: `adamw`, or `muon` for the hidden matrices with AdamW for the rest.
        tokens_per_step: tokens that one update sees, over all ranks; sets
            `gradient_accumulation_steps`.
    """

    makes: ClassVar[tuple[str, ...]] = ("model",)
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "accelerate")

    tokenizer: Annotated[str | None, Refers("tokenizer")] = None
    shards: Annotated[str | None, Refers("shards")] = None
    config: Annotated[dict[str, Any], Passes("transformers.AutoConfig")] = field(
        default_factory=dict
    )
    args: Annotated[dict[str, Any], Passes("transformers.TrainingArguments")] = field(
        default_factory=dict
    )
    patches: Patches = "auto"
    optimizer: Optimizer = "adamw"
    tokens_per_step: int | None = None

    def facts(self, upstream: Mapping[str, Facts]) -> Facts:
        tokenizer, shards = self._upstream(upstream)
        return Facts(
            vocab_size=self.config.get("vocab_size", tokenizer.vocab_size),
            context_length=self._positions() or shards.context_length,
            eos_token=tokenizer.eos_token,
            pad_token=tokenizer.pad_token,
            chat_template=tokenizer.chat_template,
        )

    def problems(self, upstream: Mapping[str, Facts]) -> Iterator[Problem]:
        tokenizer, shards = self._upstream(upstream)
        yield from self._vocabulary_problems(tokenizer, shards)
        yield from self._shape_problems(shards)
        yield from trainer_problems(
            self.args, REFUSED, self.patches, self.optimizer, self.tokens_per_step
        )
        yield from self._step_problems(shards)
        if shards.validation is False:
            what = f"{self.shards} holds out no document, and there must be some to validate on"
            yield Problem(("shards",), what, "set its validation_fraction above 0")

    def _upstream(self, upstream: Mapping[str, Facts]) -> tuple[Facts, Facts]:
        return (
            upstream.get(self.tokenizer or "", Facts()),
            upstream.get(self.shards or "", Facts()),
        )

    def _positions(self) -> int | None:
        return next((self.config[key] for key in POSITIONS if key in self.config), None)

    def _vocabulary_problems(self, tokenizer: Facts, shards: Facts) -> Iterator[Problem]:
        wanted, known = self.config.get("vocab_size"), tokenizer.vocab_size
        if wanted is not None and known is not None and wanted < known:
            yield Problem(
                ("config", "vocab_size"),
                f"{wanted:,} is below the tokenizer's {known:,}",
                "leave it out: the tokenizer says it",
            )
        if known is not None and shards.vocab_size is not None and shards.vocab_size != known:
            yield Problem(
                ("shards",),
                f"{self.shards} was made with {shards.vocab_size:,} tokens, and the tokenizer "
                f"{self.tokenizer} has {known:,}",
                "name the tokenizer that the shards were made with",
            )

    def _shape_problems(self, shards: Facts) -> Iterator[Problem]:
        positions = self._positions()
        if positions is not None and positions < (shards.context_length or 0):
            key = next(key for key in POSITIONS if key in self.config)
            yield Problem(
                ("config", key),
                f"{positions} is below the shards' context_length {shards.context_length}",
                "leave it out, or lower context_length of the tokenize stage",
            )
        for width_key, width_default, heads_key, heads_default in WIDTHS:
            gpt2 = self.config.get("model_type", "gpt2") == "gpt2"
            width = self.config.get(width_key, width_default if gpt2 else None)
            heads = self.config.get(heads_key, heads_default if gpt2 else None)
            if width and heads and "head_dim" not in self.config and width % heads:
                yield Problem(
                    ("config", width_key),
                    f"{width} is no multiple of {heads_key} {heads}",
                    f"try {math.ceil(width / heads) * heads}",
                )

    def _step_problems(self, shards: Facts) -> Iterator[Problem]:
        batch = self.args.get("per_device_train_batch_size", 8)
        if self.tokens_per_step is None or batch < 1 or not shards.context_length:
            return
        if self.tokens_per_step % (batch * shards.context_length):
            yield Problem(
                ("tokens_per_step",),
                f"{self.tokens_per_step:,} is no multiple of {batch} rows x "
                f"{shards.context_length} tokens",
                "change it or args.per_device_train_batch_size",
            )

    def prepare(self, name: str) -> None:
        """Construct both Hugging Face configs, as the runner asks before the first stage."""
        self._model_config({}, None, name)
        self._arguments(self.args, Path("."), 0, name)

    def run(self, context: Context) -> dict[str, Any]:
        """Train, and write `model.safetensors`, configuration and tokenizer to `context.out`."""
        from llmkit.device import tune_allocator
        from llmkit.patch import patched
        from llmkit.trainers.session import save_model, train

        tune_allocator()
        trainer = self._trainer(context)
        figures = train(trainer, self.patches)
        with patched(trainer.model, self.patches):
            validation = trainer.evaluate()
        save_model(trainer, context.out)
        return {
            "parameters": trainer.model.num_parameters(),
            **figures,
            "validation_loss": validation["eval_loss"],
            "bits_per_byte": validation["eval_bits_per_byte"],
        }

    def _trainer(self, context: Context) -> Pretrainer:
        """A trainer with a fresh model, the windows and the schedule."""
        from transformers import AutoModelForCausalLM, set_seed

        from llmkit.data.shard_files import read_index
        from llmkit.data.shards import TokenWindows
        from llmkit.model import load_tokenizer
        from llmkit.trainers.pretraining import Pretrainer

        tokenizer = load_tokenizer(context.inputs[self.tokenizer or ""])
        shards = Path(context.inputs[self.shards or ""])
        length = read_index(shards)["context_length"]
        windows = TokenWindows(shards, "train", length, context.seed)
        args, samples = self._schedule(context, windows)
        config = self._model_config(from_tokenizer(tokenizer), length, context.name)
        set_seed(context.seed)
        return Pretrainer(
            model=AutoModelForCausalLM.from_config(config),
            args=args,
            context=context,
            optimizer=self.optimizer,
            train_dataset=TokenWindows(shards, "train", length, context.seed, samples),
            eval_dataset=TokenWindows(shards, "validation", length),
            processing_class=tokenizer,
        )

    def _arguments(
        self, args: Mapping[str, Any], out: Path, seed: int, name: str
    ) -> TrainingArguments:
        from transformers import TrainingArguments

        from llmkit.trainers.arguments import training_arguments

        # The windows hold what the model takes, and nothing else.
        own = {"remove_unused_columns": False}
        return training_arguments(TrainingArguments, own | dict(args), out, seed, f"{name}.args")

    def _schedule(self, context: Context, windows: TokenWindows) -> tuple[TrainingArguments, int]:
        """The arguments with `max_steps` worked out, and the number of windows it takes.

        The whole training is one pass over that many windows, reshuffled each time round the
        shards: Hugging Face's own epochs would read every one in the same order.
        """
        from llmkit.trainers.arguments import accumulation_steps

        given = dict(self.args)
        probe = self._arguments(given, context.out, context.seed, context.name)
        batch, ranks = probe.per_device_train_batch_size, probe.world_size
        if self.tokens_per_step is not None:
            given["gradient_accumulation_steps"] = accumulation_steps(
                self.tokens_per_step,
                batch,
                windows.context_length,
                ranks,
                f"{context.name}.tokens_per_step",
            )
        rows = batch * ranks * given.get("gradient_accumulation_steps", 1)
        steps = given.get("max_steps", -1)
        if steps <= 0:
            steps = math.ceil(given.get("num_train_epochs", 1) * len(windows) / rows)
        given["max_steps"] = steps
        return self._arguments(given, context.out, context.seed, context.name), steps * rows

    def _model_config(
        self, known: Mapping[str, Any], length: int | None, name: str
    ) -> PreTrainedConfig:
        """The model's configuration: the recipe's keys over what tokenizer and shards say.

        Raises:
            UserError: transformers refuses it.
        """
        from huggingface_hub.errors import StrictDataclassError
        from transformers import AutoConfig

        keys = {"model_type": "gpt2"} | dict(known) | self.config
        if length is not None and self._positions() is None:
            keys["max_position_embeddings"] = length
        try:
            return AutoConfig.for_model(keys.pop("model_type"), **keys)
        except (ValueError, TypeError, StrictDataclassError) as error:
            what = " ".join(str(error).split())
            raise UserError(f"{name}.config", what, "change these keys") from error


def from_tokenizer(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The configuration keys that a tokenizer decides; tokens that it lacks are None.

    GPT-2's own defaults (50,256) would lie outside a small vocabulary.
    """
    from llmkit.data.bpe import num_ids

    return {
        "vocab_size": num_ids(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
