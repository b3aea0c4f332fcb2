"""What a curation step is, and what the filters share.

A step takes one document and gives back that document (perhaps edited), several documents, or a
`Dropped` that says which rule it broke and by what figure. Steps hold settings only, so they can
be compared, pickled and run anywhere.

Words are those of spaCy's English tokenizer, with which FineWeb was made: `english_words.py`. Not
for scripts that write no spaces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

from llmkit.data.curation.english_words import words_of
from llmkit.data.documents import Document


class Dropped(NamedTuple):
    """Why a document is removed: the rule's name, and the figure that broke it."""

    reason: str
    figure: float
    detail: str = ""  # for a duplicate, the id of the document that is kept


@dataclass(frozen=True, kw_only=True)
class Step:
    """Base of the steps; its fields are its recipe keys, and `name` is its word in a recipe."""

    name: ClassVar[str] = ""

    def libraries(self) -> tuple[str, ...]:
        """Packages whose version may change what the step does."""
        return ()

    def load(self) -> None:
        """Read the lists and models that `apply` needs, once a process.

        Worker processes are forked after this, so what it has put into a cache lies in memory once.
        """

    def files(self) -> Iterator[Path]:
        """The local files that decide what the step does, beside its keys."""
        yield from ()

    def apply(self, document: Document) -> Document | list[Document] | Dropped:
        """Pass on, edit, split or drop the document, by itself: a worker may see any of them."""
        return document


@dataclass(frozen=True, kw_only=True)
class Filter(Step):
    """A step that judges a text by itself and never edits it."""

    def check(self, text: str) -> Dropped | None:
        """The first rule that `text` breaks. `text` is never blank."""
        return None

    def apply(self, document: Document) -> Document | list[Document] | Dropped:
        return self.check(document.text) or document


@lru_cache(maxsize=2)  # the filters of one pipeline ask for the same text one after another
def split_words(text: str) -> tuple[str, ...]:
    """`"It's 3.5 km..."` -> `("It", "'s", "3.5", "km", "...")`."""
    return words_of(text)


@lru_cache(maxsize=2)
def count_words(text: str) -> Counter[str]:
    """`"the more the"` -> `{"the": 2, "more": 1}`, in the order in which they first occur."""
    return Counter(split_words(text))


def duplicates(pieces: Sequence[str]) -> tuple[int, int]:
    """Number and characters of the pieces that occurred before: `["a", "bc", "bc"]` -> `(1, 2)`."""
    if len(set(pieces)) == len(pieces):
        return 0, 0
    seen: set[str] = set()
    number = characters = 0
    for piece in pieces:
        if piece in seen:
            number += 1
            characters += len(piece)
        else:
            seen.add(piece)
    return number, characters
