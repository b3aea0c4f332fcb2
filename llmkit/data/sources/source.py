"""What a source of documents is, and how it is cut into parts that workers read by themselves.

A source is one mapping of a recipe's `sources`. Its documents come in one fixed order. `parts()`
cuts them: the documents of part 0, then those of part 1, and so on, are exactly the source's
documents before its `limit`. A part is small, picklable, and needs nothing of the other parts, so
any worker may read any of them; who does so keeps the order of the parts and applies `limit`
(`llmkit.data.sources.budget`) and the weights (`llmkit.data.sources.mixing`) to what comes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from llmkit.data.documents import Document
from llmkit.data.sources.budget import Limit, budget, first, tokens_of
from llmkit.data.sources.readers import BadRows


class Part(Protocol):
    """A stretch of a source: a frozen dataclass of plain values."""

    def documents(
        self, world: Mapping[str, Any], seed: int, bad_rows: BadRows
    ) -> Iterator[Document]:
        """Yield its documents, the same ones in the same order every time.

        `bad_rows` gets the faults met on the way. A worker gives a `BadRows` of its own and hands
        on what `bad_rows.drain()` returns with each document or batch, so that whoever puts the
        parts together adds up exactly the faults that lie before the last document taken.

        Raises:
            InputError: the part is missing or broken, or more rows are bad than allowed.
        """


@dataclass(frozen=True, kw_only=True)
class Source:
    """Base of the sources.

    Attributes:
        limit: documents taken at most, the first ones; or `{documents: N, tokens: N}`.
        weight: this source's share of the mix of all sources, in documents
            (`llmkit.data.sources.mixing`); all sources have one, or none has.
    """

    limit: int | Limit | None = None
    weight: float | None = None

    def __post_init__(self) -> None:
        budget(self.limit)
        if self.weight is not None and not self.weight > 0:
            raise ValueError(f"weight: {self.weight} is not positive")

    @property
    def label(self) -> str:
        """How stats.json names this source: the same on every machine."""
        raise TypeError(f"{type(self).__name__} has no label")

    @property
    def size(self) -> int | None:
        """Documents that will come, where that is known without reading."""
        bound = budget(self.limit)
        return bound.documents if bound and bound.tokens is None else None

    def files(self) -> Iterator[Path]:
        """The local files that are read."""
        yield from ()

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        """The Hub data set that is read, with its revision."""
        yield from ()

    def parts(self) -> Sequence[Part]:
        """The source, cut: at least one part, and the same ones however often it is asked.

        Raises:
            InputError: the source is missing.
        """
        raise TypeError(f"{type(self).__name__} has no parts")

    def documents(
        self, world: Mapping[str, Any], seed: int, bad_rows: BadRows
    ) -> Iterator[Document]:
        """Yield the documents of all parts up to `limit`, always the same ones in the same order.

        Raises:
            InputError: as `Part.documents` and `parts` do.
        """
        streams = (part.documents(world, seed, bad_rows) for part in self.parts())
        yield from first(chain.from_iterable(streams), self.limit, tokens_of)
