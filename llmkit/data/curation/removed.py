"""What is kept of removed documents: of every one why it went, of some the text.

The text of all would grow with the web itself. So each removed document leaves its id, the rule
and the figure that broke it, and of each rule a sample of fixed size leaves its text. Which ones,
follows from the seed and their ids: those of the smallest hash, which is a uniform sample
(bottom-k) and the same however the input was cut and whoever worked on it.
"""

from __future__ import annotations

import hashlib
import json
from bisect import insort
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SAMPLES = "removed_samples.jsonl"
SAMPLED_TEXT = 2000  # characters of a sampled text
REMOVED_COLUMNS = {
    "id": "string",
    "reason": "string",
    "figure": "float64",
    "detail": "string",
    "step": "string",
    "source": "string",
    "characters": "int64",
}

Row = dict[str, Any]


class Samples:
    """Of each step and reason the `most` rows of the smallest hash."""

    def __init__(self, most: int, seed: int) -> None:
        self.most, self.seed = most, seed
        self.kept: dict[tuple[str, str], list[tuple[str, int, Row]]] = {}
        self.offered = 0

    def offer(self, row: Row, text: str) -> None:
        """A removed document's row, with its whole text."""
        told = json.dumps([self.seed, row["step"], row["reason"], row["id"]])
        rank = hashlib.blake2b(told.encode(errors="surrogatepass"), digest_size=8).hexdigest()
        self._take(rank, row, text)

    def _take(self, rank: str, row: Row, text: str) -> None:
        best = self.kept.setdefault((row["step"], row["reason"]), [])
        self.offered += 1  # settles rows of equal rank, as the earlier of one id twice
        if self.most and (len(best) < self.most or rank < best[-1][0]):
            insort(best, (rank, self.offered, {**row, "text": text[:SAMPLED_TEXT]}))
            del best[self.most :]

    def rows(self) -> Iterator[Row]:
        """The sampled rows, which may be edited; of each step and reason in the order of rank."""
        for best in self.kept.values():
            yield from (row for _, _, row in best)

    def to_rows(self) -> list[Row]:
        """JSON-able, for `add`."""
        return [{"rank": rank, **row} for best in self.kept.values() for rank, _, row in best]

    def add(self, rows: Iterable[Row]) -> None:
        """Take in what another block sampled."""
        for ranked in rows:
            row = {key: value for key, value in ranked.items() if key != "rank"}
            self._take(ranked["rank"], row, row["text"])

    def write(self, path: Path, steps: list[str]) -> None:
        """As JSON Lines, in the order of the steps and by reason."""
        keys = sorted(self.kept, key=lambda key: (steps.index(key[0]), key[1]))
        lines = (
            json.dumps(row, ensure_ascii=False) + "\n"
            for key in keys
            for _, _, row in self.kept[key]
        )
        path.write_text("".join(lines), encoding="utf-8")
