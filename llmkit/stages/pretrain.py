"""`pretrain`: token shards and a tokenizer to a causal language model.

Built on `transformers.Trainer`. Any causal model of `AutoConfig` works, from random weights or from
a trained model; GPT-2 is the default. The result is a plain model folder, tokenizer included.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from llmkit.errors import Problem
from llmkit.schema import Named, Passes, Refers
from llmkit.stage import Context, Facts, Stage
from llmkit.tasks.task import name_of
from llmkit.trainers.model_keys import (
    POSITIONS,
    config_problems,
    model_problems,
    shape_problems,
    vocabulary_problems,
)
from llmkit.trainers.pretrain_settings import (
    Samples,
    ShardSet,
    SkipSpikes,
    extra_problems,
    mixture_problems,
    step_problems,
)
from llmkit.trainers.settings import NOTHING, Optimizer, Patches, trainer_problems

if TYPE_CHECKING:
    from transformers import (
        PreTrainedModel,
        PreTrainedTokenizerFast,
        TrainingArguments,
    )

    from llmkit.data.tokens.shards import Windows
    from llmkit.trainers.pretraining import Pretrainer

REFUSED = {
    "train_sampling_strategy": "the windows of the shards come in an order of their own",
    "dataloader_drop_last": "the windows fill every batch; " + NOTHING,
}


@dataclass(frozen=True, kw_only=True)
class Pretrain(Stage):
    """Train a model of `config`, or go on with `model`, on `shards`.

    Attributes:
        model: an earlier stage, a model folder or a Hub id (with `revision`) to begin with; random
            weights where it is not given.
        shards: what is trained and validated on.
        mixture: the shard sets that are trained on instead, by weight or by epochs.
        config: keys of the model's transformers configuration; `model_type` selects it. The
            vocabulary, context length and special tokens come from tokenizer and shards. Beside
            `model`, dropout and what else only the training reads.
        args: TrainingArguments. One epoch if neither `max_steps` nor `num_train_epochs` is given.
        optimizer: `adamw`, or `muon` for the hidden matrices with AdamW for the rest.
        tokens_per_step: tokens that one update sees, over all ranks; sets
            `gradient_accumulation_steps`.
        document_masking: tokens attend within their document only, and positions begin again at
            each; without it a row is one stream, as GPT-2's and llm.c's are.
        skip_spikes: leave out updates that stand far above those before; none where not given.
        samples: prompts that are continued while the model is trained, into logs/samples.jsonl.
        tasks: that let a model choose (`hellaswag`), measured at every evaluation.
    """

    makes: ClassVar[tuple[str, ...]] = ("model",)
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "accelerate")
    together: ClassVar[bool] = True
    unkeyed: ClassVar[tuple[str, ...]] = ("samples",)

    model: Annotated[str | None, Refers("model", implied=False)] = None
    revision: str | None = None
    tokenizer: Annotated[str | None, Refers("tokenizer")] = None
    shards: Annotated[str | None, Refers("shards")] = None
    mixture: list[ShardSet] = field(default_factory=list)
    config: Annotated[dict[str, Any], Passes("transformers.AutoConfig")] = field(
        default_factory=dict
    )
    args: Annotated[dict[str, Any], Passes("transformers.TrainingArguments")] = field(
        default_factory=dict
    )
    patches: Patches = "auto"
    optimizer: Optimizer = "adamw"
    tokens_per_step: int | None = None
    document_masking: bool = False
    skip_spikes: SkipSpikes | None = None
    samples: Samples | None = None
    tasks: Annotated[list[Any], Named("llmkit.tasks:TASKS")] = field(default_factory=list)

    def facts(self, upstream: Mapping[str, Facts]) -> Facts:
        tokenizer, shards = self._upstream(upstream)
        base = upstream.get(self.model, Facts()) if self.model is not None else Facts()
        sizes = [size for size in (base.vocab_size, tokenizer.vocab_size) if size is not None]
        return Facts(
            vocab_size=self.config.get("vocab_size", max(sizes, default=None)),
            context_length=base.context_length or self._positions() or shards.context_length,
            eos_token=tokenizer.eos_token,
            pad_token=tokenizer.pad_token,
            chat_template=tokenizer.chat_template,
        )

    def problems(self, upstream: Mapping[str, Facts]) -> Iterator[Problem]:
        tokenizer, shards = self._upstream(upstream)
        names = (self.tokenizer, self.shards)
        yield from vocabulary_problems(self.config, tokenizer, shards, names)
        yield from mixture_problems(self.mixture, self.args, upstream, self.shards or "")
        yield from self._start_problems(upstream, shards)
        yield from trainer_problems(
            self.args, REFUSED, self.patches, self.optimizer, self.tokens_per_step
        )
        yield from step_problems(self.tokens_per_step, self.args, shards)
        yield from extra_problems(self.samples, self.tasks, self.facts(upstream).context_length)
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

    def _start_problems(self, upstream: Mapping[str, Facts], shards: Facts) -> Iterator[Problem]:
        if self.model is None:
            yield from config_problems(self.config)
            yield from shape_problems(self.config, shards)
            if self.revision is not None:
                yield Problem(("revision",), "is of no model", "name the model, or leave it out")
        else:
            base = upstream.get(self.model, Facts())
            yield from model_problems(self.model, self.config, base, shards)

    def files(self) -> Iterator[Path]:
        for task in self.tasks:
            yield from task.files()

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        for task in self.tasks:
            yield from task.hub_data()

    def prepare(self, name: str) -> None:
        from llmkit.trainers.launch import check_muon, check_spikes
        from llmkit.trainers.starting import check_buildable

        check_muon(name, self.optimizer)
        if self.skip_spikes is not None:
            check_spikes(name)
        if self.model is None:
            check_buildable(self._keys(), name)
        self._arguments(self.args, Path("."), 0, name)

    def run(self, context: Context) -> dict[str, Any]:
        """Train, and write `model.safetensors`, configuration and tokenizer to `context.out`."""
        from llmkit.device import tune_allocator
        from llmkit.patch import patched
        from llmkit.trainers.pretrain_windows import gate_validation
        from llmkit.trainers.session import save_model, train

        tune_allocator()
        trainer = self._trainer(context)
        gate_validation(context, trainer.train_dataset, trainer.eval_dataset.stream)
        figures = train(trainer, self.patches, trainer.train_dataset.context_length)
        with patched(trainer.model, self.patches):
            validation = trainer.evaluate()
        save_model(trainer, context.out)
        return {
            "parameters": trainer.model.num_parameters(),
            **figures,
            "validation_loss": validation.pop("eval_loss"),
            **{name.removeprefix("eval_"): value for name, value in validation.items()},
        }

    def _trainer(self, context: Context) -> Pretrainer:
        """A trainer with its model, the windows and the schedule."""
        from llmkit.data.tokens.shard_files import read_index
        from llmkit.data.tokens.shards import TokenWindows
        from llmkit.model import load_tokenizer
        from llmkit.trainers.pretraining import Pretrainer
        from llmkit.trainers.sampling import taken
        from llmkit.trainers.spikes import SpikeWatch

        tokenizer = load_tokenizer(context.inputs[self.tokenizer or ""])
        shards = Path(context.inputs[self.shards or ""])
        length = read_index(shards)["context_length"]
        args, num_windows = self._schedule(context, length)
        trainer = Pretrainer(
            model=self._model(context, tokenizer, length),
            args=args,
            context=context,
            optimizer=self.optimizer,
            spikes=None if self.skip_spikes is None else SpikeWatch(self.skip_spikes),
            fresh=self.model is None,
            choices={name_of(t): [*t.choices(context.world, context.seed)] for t in self.tasks},
            train_dataset=self._windows(context, length, num_windows),
            eval_dataset=TokenWindows(
                shards, "validation", length, document_masking=self.document_masking
            ),
            processing_class=tokenizer,
        )
        if self.samples is not None:
            trainer.add_callback(taken(self.samples, context, trainer.model, tokenizer))
        return trainer

    def _windows(self, context: Context, length: int, num_samples: int | None = None) -> Windows:
        from llmkit.trainers.pretrain_windows import training_windows

        own = context.inputs[self.shards or ""]
        sets = [(context.inputs[part.shards], part) for part in self.mixture]
        return training_windows(own, sets, length, context.seed, num_samples, self.document_masking)

    def _model(
        self, context: Context, tokenizer: PreTrainedTokenizerFast, length: int
    ) -> PreTrainedModel:
        """Random weights, or those of `model`; float32."""
        from llmkit.trainers.starting import fresh_model, from_tokenizer, model_to_go_on_with

        if self.model is not None:
            source, revision = context.inputs[self.model], self.revision
            return model_to_go_on_with(
                source, revision, self.config, tokenizer, length, context.name
            )
        keys = from_tokenizer(tokenizer) | self._keys(length)
        return fresh_model(keys, context.seed, context.name)

    def _keys(self, length: int | None = None) -> dict[str, Any]:
        """The recipe's keys of a fresh model, with the positions that the shards' rows take."""
        given = {"model_type": "gpt2"} | self.config
        if length is not None and self._positions() is None:
            given["max_position_embeddings"] = length
        return given

    def _arguments(
        self, args: Mapping[str, Any], out: Path, seed: int, name: str
    ) -> TrainingArguments:
        from transformers import TrainingArguments

        from llmkit.trainers.arguments import training_arguments

        # The windows hold what the model takes, and nothing else.
        own = {"remove_unused_columns": False}
        return training_arguments(TrainingArguments, own | dict(args), out, seed, f"{name}.args")

    def _schedule(self, context: Context, length: int) -> tuple[TrainingArguments, int]:
        """The arguments with `max_steps` worked out, and the number of windows it takes.

        The training is one pass over that many windows, in a new order each time round the shards:
        Hugging Face's own epochs would read every one in the same order.
        """
        from llmkit.trainers.arguments import accumulation_steps

        given = dict(self.args)
        probe = self._arguments(given, context.out, context.seed, context.name)
        batch, ranks = probe.per_device_train_batch_size, probe.world_size
        if self.tokens_per_step is not None:
            where = f"{context.name}.tokens_per_step"
            given["gradient_accumulation_steps"] = accumulation_steps(
                self.tokens_per_step, batch, length, ranks, where
            )
        rows = batch * ranks * given.get("gradient_accumulation_steps", 1)
        steps = given.get("max_steps", -1)
        if steps <= 0:
            once = len(self._windows(context, length)) / rows
            epochs = given.get("num_train_epochs", 1)
            # A mixture ends where its epochs do; a rest that fills no step is left.
            steps = max(1, int(once)) if self.mixture else math.ceil(epochs * once)
        given["max_steps"] = steps
        return self._arguments(given, context.out, context.seed, context.name), steps * rows
