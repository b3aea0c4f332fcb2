"""What tasks of tinyworld's questions share: measured on held-out ones, trained on all others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from llmkit.data.tinyworld.questions import Question
from llmkit.data.tinyworld.wordings import Split
from llmkit.data.tinyworld.world import World
from llmkit.tasks.task import Example, Task, name_of


@dataclass(frozen=True, kw_only=True)
class QuestionTask(Task):
    """Base of a task that asks `questions`, in another order for every seed."""

    def questions(self, world: World, split: Split) -> Iterator[Question]:
        """All of the split's."""
        yield from ()

    def examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        return self._asked(world, "heldout", f"{seed}:{name_of(self)}")

    def training_examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        return self._asked(world, "train", f"{seed}:{name_of(self)}:train")

    def _asked(self, world: Mapping[str, Any], split: Split, seed: str) -> Iterator[Example]:
        asked = list(self.questions(World(**world), split))
        Random(seed).shuffle(asked)
        for question in asked[: self.limit]:
            details = {
                "kind": question.kind,
                "attribute": question.attribute,
                "name": question.name,
            }
            yield Example([{"role": "user", "content": question.text}], question.value, details)
