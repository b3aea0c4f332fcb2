"""What a task is: something that models are measured by.

A `Task` asks: examples with prompts, and one `score` that is metric and reward at once. A
`LikelihoodTask` does not ask: it shows texts, and what counts is how well a model foresees them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

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


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What all tasks share; their fields are the keys that a recipe may give them.

    Attributes:
        limit: examples (or texts) at most, the first ones of a seeded order.
        models: the models of the stage that take this task; all of them when left out.
    """

    limit: int | None = None
    models: list[str] | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit: {self.limit} is not positive")

    def files(self) -> Iterator[Path]:
        """Local files that the task reads."""
        yield from ()

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        """Hub data sets that the task reads, with their revision."""
        yield from ()


@dataclass(frozen=True, kw_only=True)
class Task(Measured):
    """Base of the tasks that ask."""

    max_new_tokens: ClassVar[int] = 32

    def examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        """Yield the examples, the same ones for the same `world` settings and `seed`."""
        yield from ()

    def score(self, example: Example, completion: Completion) -> dict[str, float]:
        """Metric name -> score of this completion, each in 0..1."""
        return {}


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
