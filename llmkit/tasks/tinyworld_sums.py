"""Sums of operand pairs that no training text holds, in either order.

What is 27 + 45? -> 7 + 5 = 12, 1 + 2 + 4 = 7, so 72.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from llmkit.data.tinyworld.questions import sum_questions
from llmkit.data.tinyworld.world import World
from llmkit.tasks.task import Completion, Example, Task


@dataclass(frozen=True, kw_only=True)
class TinyworldSums(Task):
    """`limit` (1,000 when left out) different held-out pairs."""

    max_new_tokens: ClassVar[int] = 64

    def examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        rng = Random(f"{seed}:tinyworld_sums")
        for text, answer in sum_questions(World(**world), rng, self.limit or 1000):
            yield Example([{"role": "user", "content": text}], answer)

    def score(self, example: Example, completion: Completion) -> dict[str, float]:
        """`accuracy`: the last number is the sum; `ended`."""
        numbers = re.findall(r"\d+", completion.text)
        right = bool(numbers) and numbers[-1] == example.answer
        return {"accuracy": float(right), "ended": float(completion.ended)}
