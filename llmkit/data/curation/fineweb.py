"""FineWeb's own three rules, and the fourth that is in its code only.

Penedo et al. 2024, https://arxiv.org/abs/2406.17557, section 3.6 and table 2. The share of
duplicated characters is 0.01, with which English FineWeb was made (the paper's prose says 0.1, its
table and the code 0.01; FineWeb-2 changed it to 0.1). Comparisons are strict and blank lines are
left out, as in
https://github.com/huggingface/datatrove/blob/a649de79c14a550dc90f48a15c025f2dd3fd3b57/src/datatrove/pipeline/filters/fineweb_quality_filter.py
(the code of April 2024 counted blank lines and dropped at the bound itself). The marks that end a
line are English FineWeb's, with straight quotation marks; FineWeb-2 took every script's full stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llmkit.data.curation.filters import Dropped, Filter, duplicates, split_words


@dataclass(frozen=True, kw_only=True)
class FineWebQuality(Filter):
    """Drops lists, menus and pages that repeat their lines."""

    name: ClassVar[str] = "fineweb_quality"

    line_punct_thr: float = 0.12  # share of the lines that end in one of `stop_chars`, at least
    stop_chars: str = ".'\"!?"
    short_line_thr: float = 0.67  # share of the lines that are short, at most
    short_line_length: int = 30  # characters
    char_duplicates_ratio: float = 0.01  # characters in repeated lines, of all but line ends
    new_line_ratio: float = 0.3  # line ends per word

    def check(self, text: str) -> Dropped | None:
        lines = [line for line in text.split("\n") if line.strip()]
        stops = tuple(self.stop_chars)
        ended = sum(line.endswith(stops) for line in lines) / len(lines)
        if ended < self.line_punct_thr:
            return Dropped("fineweb_line_punct_ratio", ended)
        short = sum(len(line) <= self.short_line_length for line in lines) / len(lines)
        if short > self.short_line_thr:
            return Dropped("fineweb_short_line_ratio", short)
        repeated = duplicates(lines)[1] / (len(text) - text.count("\n"))
        if repeated > self.char_duplicates_ratio:
            return Dropped("fineweb_char_dup_ratio", repeated)
        breaks = text.count("\n")
        if breaks / len(text.split()) <= self.new_line_ratio:  # and words are no fewer
            return None
        ratio = breaks / len(split_words(text))
        return Dropped("fineweb_list_ratio", ratio) if ratio > self.new_line_ratio else None
