"""What a task is: something that models are measured by.

A `Task` asks: examples with prompts, and one `score` that is metric and reward at once: what a
model is trained for by `grpo` or `ppo` is the weighted sum of what `evaluate` measures. A
`LikelihoodTask` does not ask: it shows texts, and what counts is how well a model foresees them. A
`ChoiceTask` shows several endings of a text, and what counts is which of them it foresees best.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from llmkit.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt with what a right completion must say.

    `prompt` is a string to be continued as plain text (a base model's task), or a list of chat
    messages (`{"role", "content"}`) to be answered.
    """

    prompt: str | list[dict[str, str]]
    answer: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote: special tokens removed; `ended` if it closed its turn by itself."""

    text: str
    ended: bool


@dataclass(frozen=True, slots=True)
class Passage:
    """A text for its likelihood.

    Attributes:
        ids: its tokens, the first of which is only given, never foreseen.
        scored: 1 for each token whose likelihood counts; as long as `ids`.
        num_bytes: UTF-8 bytes of what the scored tokens spell.
    """

    ids: Sequence[int]
    scored: Sequence[int]
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Choice:
    """A text with several endings, which follow it without a space of their own; one is `right`."""

    text: str
    endings: Sequence[str]
    right: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What all tasks share; their fields are the keys that a recipe may give them.

    Attributes:
        limit: examples (or texts) at most, the first ones of a seeded order.
        models: the models of the stage that take this task; all of them when left out.
        max_overlap: share of its examples that may stand in the training text; 1 when left out.
    """

    limit: int | None = None
    models: list[str] | None = None
    max_overlap: float | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit: {self.limit} is not positive")
        if self.max_overlap is not None and not 0 <= self.max_overlap <= 1:
            raise ValueError(f"max_overlap: {self.max_overlap} is no share from 0 to 1")

    def files(self) -> Iterator[Path]:
        """Local files that the task reads."""
        yield from ()

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        """Hub data sets that the task reads, with their revision."""
        yield from ()


@dataclass(frozen=True, kw_only=True)
class Task(Measured):
    """Base of the tasks that ask.

    `rewards` holds the weights of those metrics of `score` that make the reward; a task without
    any is measured, and never a reward.
    """

    max_new_tokens: ClassVar[int] = 32
    rewards: ClassVar[Mapping[str, float]] = {}

    def examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        """Yield the examples, the same ones for the same `world` settings and `seed`."""
        yield from ()

    def score(self, example: Example, completion: Completion) -> dict[str, float]:
        """Metric name -> score of this completion, each in 0..1."""
        return {}

    def training_examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        """Yield examples to train on, at most `limit`: none of what `examples` holds out.

        Raises:
            UserError: the task has none, or not of its own.
        """
        raise UserError(type(self).__name__, "has no training examples", "choose another task")

    def reward(self, example: Example, completion: Completion) -> float:
        """What the completion is worth to a policy that learns the task."""
        return self.weighted(self.score(example, completion))

    def weighted(self, scores: Mapping[str, float]) -> float:
        """The weighted sum of the scores that `rewards` names."""
        return sum(weight * scores[metric] for metric, weight in self.rewards.items())


@dataclass(frozen=True, kw_only=True)
class LikelihoodTask(Measured):
    """Base of the tasks that show texts."""

    reads_shards: ClassVar[bool] = False  # the validation split of the run's shards

    def passages(
        self,
        tokenizer: PreTrainedTokenizerFast,
        world: Mapping[str, Any],
        seed: int,
        shards: Path | None,
    ) -> Iterator[Passage]:
        """Yield the texts as the tokenizer writes them; `shards` are those of the run, if any.

        Raises:
            InputError: the texts are missing, or do not go with this tokenizer.
        """
        yield from ()


@dataclass(frozen=True, kw_only=True)
class ChoiceTask(Measured):
    """Base of the tasks that let a model choose."""

    def choices(self, world: Mapping[str, Any], seed: int) -> Iterator[Choice]:
        """Yield what is to be chosen, the same for the same `world` settings and `seed`.

        Raises:
            InputError: the data is missing or broken.
        """
        yield from ()


def name_of(task: Measured) -> str:
    """The recipe's word for the task."""
    from llmkit.tasks import TASKS

    cls = type(task)
    return next(name for name, at in TASKS.items() if at == f"{cls.__module__}:{cls.__name__}")
