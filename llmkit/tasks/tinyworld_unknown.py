"""Questions about people, towns and goods that do not exist, and that no training text names.

Where is the home of Amy Kemp? -> I do not know of Amy Kemp.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from llmkit.data.tinyworld.questions import unknown_questions
from llmkit.data.tinyworld.wordings import Split, attribute_named, is_refusal
from llmkit.data.tinyworld.world import World
from llmkit.tasks.task import Completion, Example, Task


@dataclass(frozen=True, kw_only=True)
class TinyworldUnknown(Task):
    """Every held-out name once, in a held-out wording; to train on, other names and wordings."""

    rewards: ClassVar[Mapping[str, float]] = {"refused": 1.0}

    def examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        return self._asked(world, "heldout", f"{seed}:tinyworld_unknown")

    def training_examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        return self._asked(world, "train", f"{seed}:tinyworld_unknown:train")

    def _asked(self, world: Mapping[str, Any], split: Split, seed: str) -> Iterator[Example]:
        asked = list(unknown_questions(World(**world), split))
        Random(seed).shuffle(asked)
        for question in asked[: self.limit]:
            details = {
                "kind": question.kind,
                "attribute": question.attribute,
                "name": question.name,
            }
            yield Example([{"role": "user", "content": question.text}], question.value, details)

    def score(self, example: Example, completion: Completion) -> dict[str, float]:
        """`refused`: says that one does not know, and claims no value beside it; `ended`."""
        attribute = attribute_named(example.details["kind"], example.details["attribute"])
        claims = attribute.named_in(completion.text.replace(example.details["name"], ""))
        refused = is_refusal(completion.text) and not claims
        return {"refused": float(refused), "ended": float(completion.ended)}
