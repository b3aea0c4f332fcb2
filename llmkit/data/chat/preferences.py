"""Where preference pairs come from: a Hub data set, a file, or the embedded `tinyworld`.

Rows are recognised by their columns (`llmkit.data.chat.preference_rows`), and a bad one is named
with its file and line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from llmkit.data.chat.preference_rows import Pair, pairs_of
from llmkit.data.chat.row_sources import HubRows, PathRows, RowSource, gathered
from llmkit.data.sources.readers import BadRows
from llmkit.data.tinyworld.preferences import PairMix

__all__ = ["PREFERENCES", "Pair", "PreferenceSource", "gathered", "kinds"]

PREFERENCES = {
    "hub": "llmkit.data.chat.preferences:HubPreferences",
    "path": "llmkit.data.chat.preferences:PathPreferences",
    "tinyworld": "llmkit.data.chat.preferences:TinyworldPreferences",
}


@dataclass(frozen=True, kw_only=True)
class PreferenceSource(RowSource[Pair]):
    """Base of the sources."""

    noun: ClassVar[str] = "preference pair"

    pairs = RowSource.rows

    def _made_of(self, row: Mapping[str, Any]) -> Iterator[Pair]:
        return pairs_of(row)


@dataclass(frozen=True, kw_only=True)
class PathPreferences(PathRows[Pair], PreferenceSource):
    """`{path: FILE-OR-FOLDER, split: "[:90%]"}`."""


@dataclass(frozen=True, kw_only=True)
class HubPreferences(HubRows[Pair], PreferenceSource):
    """`{hub: OWNER/NAME, name: CONFIG, revision: COMMIT, split: "train[:5000]"}`."""


@dataclass(frozen=True, kw_only=True)
class TinyworldPreferences(PreferenceSource):
    """`{tinyworld: preferences, num_pairs: 20000}`, of the recipe's `world`.

    `split: heldout` has wordings, names and sums that training never sees; `mix` says what is wrong
    with the rejected answers.
    """

    tinyworld: Literal["preferences"]
    num_pairs: int = 20_000
    split: Literal["train", "heldout"] = "train"
    mix: PairMix | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_pairs < 1:
            raise ValueError(f"num_pairs: {self.num_pairs} is not positive")

    @property
    def label(self) -> str:
        return f"tinyworld:{self.split}"

    def _rows(
        self,
        world: Mapping[str, Any],
        inputs: Mapping[str, Path | str],
        seed: int,
        bad_rows: BadRows,
    ) -> Iterator[Pair]:
        from llmkit.data.tinyworld.preferences import preferences
        from llmkit.data.tinyworld.world import World

        for row in preferences(World(**world), self.num_pairs, seed, self.split, self.mix):
            yield Pair(**row)


def kinds(pairs: Iterable[Pair]) -> dict[str, int]:
    """How many pairs there are of each kind, by its name; those of no known kind as "other"."""
    return dict(sorted(Counter(pair.kind or "other" for pair in pairs).items()))
