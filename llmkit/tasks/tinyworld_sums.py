"""Sums of operand pairs that no training text holds, in either order.

What is 27 + 45? -> 7 + 5 = 12, 1 + 2 + 4 = 7, so 72.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from llmkit.data.tinyworld.questions import sum_questions
from llmkit.data.tinyworld.world import World
from llmkit.tasks.numbers import last_number, right_digits
from llmkit.tasks.task import Completion, Example, Task


@dataclass(frozen=True, kw_only=True)
class TinyworldSums(Task):
    """`limit` (1,000 when left out) different held-out pairs; to train on, others than those."""

    max_new_tokens: ClassVar[int] = 64
    # Each right digit is worth something, or a model that is seldom right learns slowly.
    rewards: ClassVar[Mapping[str, float]] = {"accuracy": 0.5, "digits": 0.5}

    def examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        rng = Random(f"{seed}:tinyworld_sums")
        for text, answer in sum_questions(World(**world), rng, self.limit or 1000):
            yield Example([{"role": "user", "content": text}], answer)

    def training_examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        rng = Random(f"{seed}:tinyworld_sums:train")
        count = self.limit or 10 ** (2 * World(**world).sum_digits)  # all of the pairs
        for text, answer in sum_questions(World(**world), rng, count, held_out=False):
            yield Example([{"role": "user", "content": text}], answer)

    def score(self, example: Example, completion: Completion) -> dict[str, float]:
        """`accuracy`: the last number is the sum; `digits`: its share of right ones; `ended`."""
        said = last_number(completion.text)
        return {
            "accuracy": float(said == int(example.answer)),
            "digits": right_digits(said, example.answer),
            "ended": float(completion.ended),
        }
