"""Known facts, asked in wordings that no training text holds.

Where is the home of Max Jensen? -> The home of Max Jensen is Redfield.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from llmkit.data.tinyworld.questions import questions
from llmkit.data.tinyworld.wordings import Split, attribute_named, is_refusal
from llmkit.data.tinyworld.world import World
from llmkit.tasks.task import Completion, Example, Task


@dataclass(frozen=True, kw_only=True)
class TinyworldFacts(Task):
    """Every fact in both held-out wordings; to train on, in all others."""

    rewards: ClassVar[Mapping[str, float]] = {"accuracy": 1.0}

    def examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        return self._asked(world, "heldout", f"{seed}:tinyworld_facts")

    def training_examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        return self._asked(world, "train", f"{seed}:tinyworld_facts:train")

    def _asked(self, world: Mapping[str, Any], split: Split, seed: str) -> Iterator[Example]:
        asked = list(questions(World(**world), split))
        Random(seed).shuffle(asked)
        for question in asked[: self.limit]:
            details = {"kind": question.kind, "attribute": question.attribute}
            prompt = [{"role": "user", "content": question.text}]
            yield Example(prompt, question.value, details)

    def score(self, example: Example, completion: Completion) -> dict[str, float]:
        """`accuracy`: names the right value and no other; `refused`: wrongly; `ended`."""
        attribute = attribute_named(example.details["kind"], example.details["attribute"])
        refused = is_refusal(completion.text)
        right = attribute.named_in(completion.text) == {example.answer}
        return {
            "accuracy": float(right and not refused),
            "refused": float(refused),
            "ended": float(completion.ended),
        }
