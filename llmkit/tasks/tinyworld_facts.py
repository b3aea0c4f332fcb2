"""Known facts, asked in wordings that no training text holds.

Where is the home of Max Jensen? -> The home of Max Jensen is Redfield.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from llmkit.data.tinyworld.questions import Question, questions
from llmkit.data.tinyworld.wordings import Split, attribute_named, is_refusal
from llmkit.data.tinyworld.world import World
from llmkit.tasks.task import Completion, Example
from llmkit.tasks.tinyworld_questions import QuestionTask


@dataclass(frozen=True, kw_only=True)
class TinyworldFacts(QuestionTask):
    """Every fact in both held-out wordings; to train on, in all others."""

    rewards: ClassVar[Mapping[str, float]] = {"accuracy": 1.0}

    def questions(self, world: World, split: Split) -> Iterator[Question]:
        return questions(world, split)

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
