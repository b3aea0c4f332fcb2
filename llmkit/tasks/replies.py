"""Held-out conversations: what a model answers to the last question, against what a person did.

The overlap is SQuAD's F1 of words, https://arxiv.org/abs/1606.05250, section 6.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from llmkit.tasks.held_out import HeldOut
from llmkit.tasks.task import Completion, Example, Task


@dataclass(frozen=True, kw_only=True)
class Replies(HeldOut, Task):
    """The first `limit` conversations of `dataset` (200 when left out), the last answer asked."""

    max_new_tokens: ClassVar[int] = 128

    def examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        for chat in self.chats(world, seed)[: self.limit or 200]:
            yield Example(chat[:-1], chat[-1]["content"])

    def score(self, example: Example, completion: Completion) -> dict[str, float]:
        """`ended`; `word_f1`: words in common with the person's answer."""
        return {
            "ended": float(completion.ended),
            "word_f1": word_f1(completion.text, example.answer),
        }


def word_f1(said: str, wanted: str) -> float:
    """Harmonic mean of precision and recall of the words, case and punctuation aside.

    `the blue sky`, `sky is blue` -> 2 words in common of 3 and 3: 0.667.
    """
    one, two = (Counter(re.findall(r"\w+", text.lower())) for text in (said, wanted))
    common = (one & two).total()
    return 2 * common / (one.total() + two.total()) if common else 0.0
