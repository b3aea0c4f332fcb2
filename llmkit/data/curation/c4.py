"""C4's rules, as FineWeb applied them: lines go one by one, and too little left drops the document.

Raffel et al. 2020, https://jmlr.org/papers/volume21/20-074/20-074.pdf, section 2.2. FineWeb left
out the rule that a line must end in terminal punctuation, for it alone removed 30 % of the tokens
(https://arxiv.org/abs/2406.17557, section 3.5); so does this step. The rules' order is that of
https://github.com/huggingface/datatrove/blob/a649de79c14a550dc90f48a15c025f2dd3fd3b57/src/datatrove/pipeline/filters/c4_filters.py
(a line that one rule removes cannot drop the document by a later one).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from llmkit.data.curation.english_words import count_sentences
from llmkit.data.curation.filters import Dropped, Step
from llmkit.data.documents import Document

CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
POLICY = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)


@dataclass(frozen=True, kw_only=True)
class C4Quality(Step):
    """Removes lines that are no prose, and citation marks; drops what then has few sentences.

    Lines lose the white space around them. A document is dropped outright for "lorem ipsum" or a
    curly bracket, as it comes from a template or a program.
    """

    name: ClassVar[str] = "c4_quality"

    min_num_sentences: int = 5
    min_words_per_line: int = 3
    max_word_length: int = 1000  # characters

    def apply(self, document: Document) -> Document | Dropped:
        kept: list[str] = []
        sentences = 0
        for number, original in enumerate(document.text.splitlines(), start=1):
            line = self._clean(original)
            if line is None:
                continue
            lowered = line.lower()
            if "lorem ipsum" in lowered:
                return Dropped("c4_lorem_ipsum", number, f"line {number}")
            if "javascript" in lowered:
                continue
            if "{" in line:
                return Dropped("c4_curly_bracket", number, f"line {number}")
            if any(map(lowered.__contains__, POLICY)):
                continue
            if sentences < self.min_num_sentences:  # more than enough need no count
                sentences += count_sentences(line)
            kept.append(line)
        text = "\n".join(kept).strip()
        if sentences < self.min_num_sentences or not text:
            return Dropped("c4_too_few_sentences", sentences)
        if text == document.text:
            return document
        return Document(text=text, id=document.id, metadata=document.metadata)

    def _clean(self, line: str) -> str | None:
        """The line without citation marks, or None where its words already remove it."""
        line = line.strip()
        first = line.split(maxsplit=self.min_words_per_line - 1)
        if len(first) < self.min_words_per_line:  # citation marks count as words, as published
            return None
        longest = self.max_word_length
        if len(line) > longest and max(map(len, line.split())) > longest:
            return None
        return CITATION.sub("", line) if "[" in line else line
