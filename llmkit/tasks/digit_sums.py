"""Plain sums for any chat model, of operand pairs that are kept apart from those to train on.

What is 27 + 45? -> ... 72
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import Any, ClassVar

from llmkit.tasks.numbers import last_number, right_digits
from llmkit.tasks.task import Completion, Example, Task

QUESTIONS = ("What is {a} + {b}?", "How much is {a} plus {b}?", "Add {a} and {b}.")


@dataclass(frozen=True, kw_only=True)
class DigitSums(Task):
    """`limit` (1,000 when left out) different pairs; to train on, others than those.

    Attributes:
        digits: of the greatest operand.
        held_out: share of the pairs, in either order, that are measured and never trained on.
    """

    max_new_tokens: ClassVar[int] = 64
    # Each right digit is worth something, or a model that is seldom right learns slowly.
    rewards: ClassVar[Mapping[str, float]] = {"accuracy": 0.5, "digits": 0.5}

    digits: int = 2
    held_out: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.digits <= 9:
            raise ValueError(f"digits: {self.digits} is not 1 to 9")
        if not 0.05 <= self.held_out <= 0.5:
            raise ValueError(f"held_out: {self.held_out} is not 0.05 to 0.5")

    def examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        yield from self._drawn(Random(f"{seed}:digit_sums"), self.limit or 1000, True)

    def training_examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        count = self.limit or 10 ** (2 * self.digits)  # all of the pairs
        yield from self._drawn(Random(f"{seed}:digit_sums:train"), count, False)

    def score(self, example: Example, completion: Completion) -> dict[str, float]:
        """`accuracy`: the last number is the sum; `digits`: its share of right ones; `ended`."""
        said = last_number(completion.text)
        return {
            "accuracy": float(said == int(example.answer)),
            "digits": right_digits(said, example.answer),
            "ended": float(completion.ended),
        }

    def _drawn(self, rng: Random, count: int, held_out: bool) -> Iterator[Example]:
        asked: set[tuple[int, int]] = set()
        misses = 0
        while len(asked) < count and misses < 1000:  # of short operands there are few pairs
            pair = rng.randrange(10**self.digits), rng.randrange(10**self.digits)
            if pair in asked or self.keeps(*pair) != held_out:
                misses += 1
                continue
            misses = 0
            asked.add(pair)
            text = rng.choice(QUESTIONS).format(a=pair[0], b=pair[1])
            yield Example([{"role": "user", "content": text}], str(sum(pair)))

    def keeps(self, a: int, b: int) -> bool:
        """Whether the pair is held out: by a digest of its own, the same for every seed."""
        low, high = sorted((a, b))
        digest = blake2b(f"digit_sums:{low}+{high}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") < self.held_out * 2**32
