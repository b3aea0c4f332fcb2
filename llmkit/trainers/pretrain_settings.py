"""The recipe keys that pretraining alone has, and what is wrong with them before anything runs.

Imports nothing heavy: a recipe check reads it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from llmkit.errors import Problem
from llmkit.generation import generation_problems
from llmkit.ranks import promised
from llmkit.schema import Passes, Refers
from llmkit.stage import Facts
from llmkit.tasks.task import ChoiceTask, Measured, name_of


@dataclass(frozen=True, kw_only=True)
class SkipSpikes:
    """`skip_spikes: {sigma: 6, window: 128}`.

    Attributes:
        sigma: standard deviations above the mean from which a step's update is left out.
        window: steps that mean and deviation are taken over.
    """

    sigma: float = 6.0
    window: int = 128

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(f"sigma: {self.sigma} is not positive")
        if self.window < 4:
            raise ValueError(f"window: {self.window} is too short for a deviation; take 4 or more")


@dataclass(frozen=True, kw_only=True)
class Samples:
    """`samples: {prompts: ["Once upon a time"], every: 500}`.

    Attributes:
        prompts: beginnings of documents, continued while the model is trained.
        every: steps between two looks; the last step is one more.
        generation: GenerationConfig. Greedy, and 64 new tokens, where it does not say otherwise.
    """

    prompts: list[str]
    every: int
    generation: Annotated[dict[str, Any], Passes("transformers.GenerationConfig")] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ValueError("prompts: there is none; give at least one beginning of a document")
        if self.every < 1:
            raise ValueError(f"every: {self.every} is not positive")


@dataclass(frozen=True, kw_only=True)
class ShardSet:
    """`mixture: [{shards: web, weight: 0.7}, {shards: code, weight: 0.3}]`.

    Attributes:
        shards: an earlier stage, or a folder of shards.
        weight: its share of the training windows, relative to the other weights.
        epochs: times that it is read, where there are no weights; 0.5 is the half of it.
    """

    shards: Annotated[str, Refers("shards")]
    weight: float | None = None
    epochs: float | None = None

    def __post_init__(self) -> None:
        if (self.weight is None) == (self.epochs is None):
            raise ValueError("takes a weight or epochs, one of the two")
        if not (self.weight or self.epochs or 0) > 0:
            raise ValueError(f"{self.weight or self.epochs} is not positive")


def mixture_problems(
    mixture: Sequence[ShardSet], args: Mapping[str, Any], upstream: Mapping[str, Facts], shards: str
) -> Iterator[Problem]:
    """Sets that do not go together, or do not say how long is trained; `shards` validates."""
    weighted = {part.weight is not None for part in mixture}
    if len(weighted) > 1:
        what = "some sets have a weight and some have epochs"
        yield Problem(("mixture",), what, "give every set a weight, or every set epochs")
    elif weighted == {True} and args.get("max_steps", -1) < 1:
        what = "weights do not say how much is read in all"
        yield Problem(("mixture",), what, "set args.max_steps, or give every set epochs")
    elif weighted == {False}:
        for key in (key for key in ("max_steps", "num_train_epochs") if key in args):
            what = "the epochs of the mixture say how long is trained"
            yield Problem(("args", key), what, "leave it out, or give every set a weight")
    known = upstream.get(shards, Facts()).vocab_size
    for index, part in enumerate(mixture):
        size = upstream.get(part.shards, Facts()).vocab_size
        if known is not None and size is not None and size != known:
            what = f"{part.shards} was made with {size:,} tokens, and {shards} with {known:,}"
            remedy = "encode all of them with one tokenizer"
            yield Problem(("mixture", index, "shards"), what, remedy)


def step_problems(
    tokens_per_step: int | None, args: Mapping[str, Any], shards: Facts
) -> Iterator[Problem]:
    """Tokens that the rows of one pass, of all processes that were launched, do not divide."""
    batch, ranks = args.get("per_device_train_batch_size", 8), promised(os.environ)
    if tokens_per_step is None or batch < 1 or not shards.context_length:
        return
    if tokens_per_step % (batch * shards.context_length * ranks):
        each = f"{batch} rows x {shards.context_length} tokens"
        each += f" x {ranks} processes" if ranks > 1 else ""
        yield Problem(
            ("tokens_per_step",),
            f"{tokens_per_step:,} is no multiple of {each}",
            "change it or args.per_device_train_batch_size",
        )


def extra_problems(
    samples: Samples | None, tasks: Sequence[Measured], context: int | None
) -> Iterator[Problem]:
    """Of what is looked at while the model is trained."""
    if samples is not None:
        for problem in generation_problems(samples.generation):
            yield Problem(("samples", *problem.path), problem.what, problem.remedy)
        new = samples.generation.get("max_new_tokens") or 0
        if context is not None and new >= context:
            path = ("samples", "generation", "max_new_tokens")
            yield Problem(path, f"{new} leaves no room in a context of {context}", "lower it")
    for index, task in enumerate(tasks):
        if not isinstance(task, ChoiceTask):
            what = f"{name_of(task)} is not measured while a model is trained"
            yield Problem(("tasks", index), what, "take hellaswag, or add an `evaluate` stage")
        elif task.models is not None:
            what = "`models` has no place here: the stage trains one"
            yield Problem(("tasks", index), what, "leave it out")
