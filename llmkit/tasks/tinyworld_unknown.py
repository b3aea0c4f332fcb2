"""Questions about people, towns and goods that do not exist, and that no training text names.

Where is the home of Amy Kemp? -> I do not know of Amy Kemp.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from llmkit.data.tinyworld.questions import Question, unknown_questions
from llmkit.data.tinyworld.wordings import Split, attribute_named, is_refusal
from llmkit.data.tinyworld.world import World
from llmkit.tasks.task import Completion, Example
from llmkit.tasks.tinyworld_questions import QuestionTask


@dataclass(frozen=True, kw_only=True)
class TinyworldUnknown(QuestionTask):
    """Every held-out name once, in a held-out wording; to train on, other names and wordings."""

    rewards: ClassVar[Mapping[str, float]] = {"refused": 1.0}

    def questions(self, world: World, split: Split) -> Iterator[Question]:
        return unknown_questions(world, split)

    def score(self, example: Example, completion: Completion) -> dict[str, float]:
        """`refused`: says that one does not know, and claims no value beside it; `ended`."""
        attribute = attribute_named(example.details["kind"], example.details["attribute"])
        claims = attribute.named_in(completion.text.replace(example.details["name"], ""))
        refused = is_refusal(completion.text) and not claims
        return {"refused": float(refused), "ended": float(completion.ended)}
