"""What a task is: examples with prompts, and one `score` that is metric and reward at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar


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


@dataclass(frozen=True, kw_only=True)
class Task:
    """Base of the tasks; its fields are the keys that a recipe may give it."""

    max_new_tokens: ClassVar[int] = 32

    limit: int | None = None  # examples at most, the first ones of a seeded order

    def examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        """Yield the examples, the same ones for the same `world` settings and `seed`."""
        yield from ()

    def score(self, example: Example, completion: Completion) -> dict[str, float]:
        """Metric name -> score of this completion, each in 0..1."""
        return {}
