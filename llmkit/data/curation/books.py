"""Steps for books: Project Gutenberg's licence off, and long texts cut into pieces."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from llmkit.data.curation.filters import Dropped, Step
from llmkit.data.documents import Document

# The lines between which, by Project Gutenberg's own convention, the book stands:
# https://www.gutenberg.org/policy/license.html and the header of any of its plain-text files.
START = re.compile(r"^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK.*$", re.M | re.I)
END = re.compile(
    r"^(?:\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG EBOOK"
    r"|End of (?:the )?Project Gutenberg['’]?s? ).*",
    re.M | re.I,
)
BLANK_LINES = re.compile(r"\n\s*\n")


@dataclass(frozen=True, kw_only=True)
class GutenbergBoilerplate(Step):
    """Removes the header up to the START line and all from the END line on (the licence).

    A text without those lines passes unchanged. Place it before `split`.
    """

    name: ClassVar[str] = "gutenberg_boilerplate"

    def apply(self, document: Document) -> Document | Dropped:
        start = START.search(document.text)
        begin = start.end() if start else 0
        end = END.search(document.text, begin)
        if start is None and end is None:
            return document
        text = document.text[begin : end.start() if end else None].strip()
        if not text:
            return Dropped("gutenberg_nothing_left", 0)
        return Document(text=text, id=document.id, metadata=document.metadata)


@dataclass(frozen=True, kw_only=True)
class Split(Step):
    """Cuts a long text between paragraphs (blank lines) into documents of at most `max_characters`.

    A paragraph longer than that stays whole. With `at`, a regular expression, every line that
    matches it (from its start) also begins a new document: `"^ = [^=]"` for WikiText's titles. The
    pieces are numbered: `book.txt#0`, `book.txt#1`, ...
    """

    name: ClassVar[str] = "split"

    max_characters: int = 5000
    at: str | None = None

    def __post_init__(self) -> None:
        if self.max_characters < 1:
            raise ValueError(f"max_characters: {self.max_characters} is not positive")
        try:
            re.compile(self.at or "")
        except re.error as error:
            raise ValueError(f"at: {self.at!r} is no regular expression: {error}") from error

    def apply(self, document: Document) -> Document | list[Document]:
        pieces = [
            piece
            for section in self._sections(document.text)
            for piece in self._group(BLANK_LINES.split(section))
        ]
        if len(pieces) < 2:
            return document
        return [
            Document(text=piece, id=f"{document.id}#{number}", metadata=document.metadata)
            for number, piece in enumerate(pieces)
        ]

    def _sections(self, text: str) -> list[str]:
        if self.at is None:
            return [text]
        starts = [match.start() for match in re.finditer(self.at, text, re.M)]
        edges = sorted({0, *starts, len(text)})
        return [text[left:right] for left, right in zip(edges, edges[1:], strict=False)]

    def _group(self, paragraphs: list[str]) -> list[str]:
        """Neighbouring paragraphs together, as many as fit, with a blank line between them."""
        groups: list[list[str]] = []
        size = 0
        for paragraph in filter(str.strip, paragraphs):
            paragraph = paragraph.strip("\n")
            size += len(paragraph) + 2
            if not groups or size - 2 > self.max_characters:
                groups.append([])
                size = len(paragraph) + 2
            groups[-1].append(paragraph)
        return ["\n\n".join(group) for group in groups]
