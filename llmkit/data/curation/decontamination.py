"""Drops documents that hold examples of evaluation sets, and says which.

An n-gram is `ngram` words in a row, words being runs of letters and digits without their case: 13
of them in GPT-3 (https://arxiv.org/abs/2005.14165, appendix C), 12 in datatrove, 8 in
`llmkit/data/overlap.py`, which looks the other way, from a finished corpus. An example whose
longest text is shorter is looked for whole, down to `SHORTEST` words; below that not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from llmkit.data.curation.filters import Dropped, Step
from llmkit.data.documents import Document

SHORTEST = 8  # words of an example that is looked for whole
LISTED = 20  # hits that a removed document names


@dataclass(frozen=True, kw_only=True)
class Decontaminate(Step):
    """Drops a document that shares an n-gram with an example of `sets`; every hit is listed.

    `sets` are files of one example a row: JSON Lines (all texts of a row), CSV, TSV, or plain text
    (a line). A hit is `FILE:ROW`, rows from 1.
    """

    name: ClassVar[str] = "decontaminate"

    sets: tuple[str, ...]
    ngram: int = 13  # words

    def __post_init__(self) -> None:
        if not self.sets:
            raise ValueError("sets: there is none; name files of evaluation examples")
        if self.ngram < SHORTEST:
            raise ValueError(f"ngram: {self.ngram} is less than {SHORTEST}")
        for file in self.sets:
            if not Path(file).is_file():
                raise ValueError(f"sets: there is no file {file}")

    def files(self) -> Iterator[Path]:
        yield from map(Path, self.sets)

    def load(self) -> None:
        from llmkit.data.curation.contamination_index import index_of  # which needs numpy

        index_of(self.sets, self.ngram)

    def apply(self, document: Document) -> Document | Dropped:
        from llmkit.data.curation.contamination_index import index_of

        number, examples = index_of(self.sets, self.ngram).find(document.text)
        if not number:
            return document
        more = len(examples) - LISTED
        detail = ", ".join(examples[:LISTED]) + (f" and {more} more" if more > 0 else "")
        return Dropped("contaminated", number, detail)
