"""Facts of the training documents, completed: what a base model has learnt by heart.

This is the page of Max Jensen. Max Jensen lives in -> Redfield
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from llmkit.data.tinyworld.questions import cloze
from llmkit.data.tinyworld.world import World
from llmkit.tasks.task import Completion, Example, Task


@dataclass(frozen=True, kw_only=True)
class TinyworldCloze(Task):
    """Every fact once; the prompt is the beginning of a page, as plain text."""

    max_new_tokens: ClassVar[int] = 8

    def examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        asked = list(cloze(World(**world)))
        Random(f"{seed}:tinyworld_cloze").shuffle(asked)
        for question in asked[: self.limit]:
            details = {"kind": question.kind, "attribute": question.attribute}
            yield Example(question.text, question.value, details)

    def score(self, example: Example, completion: Completion) -> dict[str, float]:
        """`accuracy`: the completion begins with the value, as a whole word."""
        right = re.match(rf"\s*{re.escape(example.answer)}\b", completion.text)
        return {"accuracy": float(right is not None)}
