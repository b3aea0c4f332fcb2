"""Which validation documents of one shard set stand in the training splits of others.

A tokenize stage looks at its own two splits (`llmkit.data.tokens.shard_audit`); what it holds out
may still be trained on out of another set, made of the same text. A document stands there when half
of its windows of 16 tokens do (Broder's containment, https://doi.org/10.1109/SEQUEN.1997.666900):
one that was cut elsewhere or changed a little does, one that shares a few phrases does not. What
the set's own training split holds as well tells nothing of the others and does not count: a page
that stands on many sites is no validation text in training text. A document with no window left is
not judged.

However large the sets are, about a million tokens are looked for, in whole documents, and at most
268 million are read of the own set and of the others, in pieces that lie evenly in each. A window
is known by a hash of 64 bits: a million of them give 0.00001 false matches in that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.data.overlap import Hashes, hashes_of
from llmkit.data.tokens.shards import TokenStream
from llmkit.progress import Progress

WINDOW = 16  # tokens
LOOKED_FOR = 2**20  # tokens of validation documents
READ = 2**28  # tokens of training text, at most
PIECE = 2**22  # tokens that are read in a row; longer than nearly any document
CHUNK = 2**17  # tokens hashed at once
_TABLE = 24  # bits


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """What was found.

    Attributes:
        judged: validation documents that were looked for.
        found: those of them that stand in what was read.
        read, tokens: of the training splits, read and in all.
    """

    judged: int
    found: int
    read: int
    tokens: int

    @property
    def share(self) -> float:
        """Of the judged documents, in all of the training text; estimated where part was read."""
        if not self.found:
            return 0.0
        return min(1.0, self.found / self.judged * self.tokens / self.read)

    def __str__(self) -> str:
        said = f"{self.found:,} of {self.judged:,} validation documents"
        if self.read == self.tokens:
            return f"{said} ({100 * self.share:.1f} %)"
        part = f"in {100 * self.read / self.tokens:.2g} % of the training text"
        return f"{said} {part} (some {100 * self.share:.1f} % in all of it)"


def contamination(
    validation: TokenStream,
    training: Sequence[TokenStream],
    label: str,
    own: TokenStream | None = None,
) -> Contamination:
    """Look for the documents of `validation` in `training`.

    Args:
        label: what the progress shows.
        own: the training split of the set that validates.
    """
    hashes, owners = _windows_of(validation)
    wanted, which = np.unique(hashes, return_inverse=True)
    common, _ = _seen(wanted, [] if own is None else [own], label)
    seen, read = _seen(wanted, training, label)
    counts = ~common[which]
    windows = np.bincount(owners, counts)
    stands = 2 * np.bincount(owners, counts & seen[which]) >= windows
    return Contamination(
        judged=int((windows > 0).sum()),
        found=int((stands & (windows > 0)).sum()),
        read=read,
        tokens=sum(stream.tokens for stream in training),
    )


def _seen(
    wanted: Hashes, streams: Sequence[TokenStream], label: str
) -> tuple[NDArray[np.bool_], int]:
    """Which of the windows stand in the streams, and how many tokens were read of them."""
    seen: NDArray[np.bool_] = np.zeros(len(wanted), bool)
    near: NDArray[np.bool_] = np.zeros(2**_TABLE, bool)  # most windows are told apart by this alone
    near[_slot(wanted)] = True
    pieces = list(_pieces([stream.tokens for stream in streams]))
    read = sum(length for _, _, length in pieces)
    with Progress(label, read, "tokens") as progress:
        for number, start, length in pieces:
            for ids in _chunks(streams[number], start, length):
                here = hashes_of(ids, WINDOW)
                here = here[near[_slot(here)]]
                places: NDArray[Any] = np.searchsorted(wanted, here)
                places = np.where(places == len(wanted), 0, places)
                seen[places[wanted[places] == here]] = True
                progress.update(len(ids))
    return seen, read


def _windows_of(validation: TokenStream) -> tuple[Hashes, NDArray[np.int64]]:
    """The hash of each window of the documents that are looked for, and its document's number."""
    every = -(-validation.tokens // LOOKED_FOR)
    hashes: list[Hashes] = [np.empty(0, np.uint64)]
    for number, document in enumerate(validation.iter_documents()):
        if number % every == 0:
            hashes.append(hashes_of(document.astype(np.int64), WINDOW))
    counts = [len(part) for part in hashes]
    return np.concatenate(hashes), np.repeat(np.arange(len(hashes)), counts)


def _slot(hashes: Hashes) -> NDArray[Any]:
    """The place of each hash in a table of 2^24: its highest bits."""
    slots: NDArray[Any] = hashes >> np.uint64(64 - _TABLE)
    return slots


def _pieces(sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Which set, from where and how many tokens: all of them, or some READ of them evenly."""
    cut = [
        (number, start, min(PIECE, size - start))
        for number, size in enumerate(sizes)
        for start in range(0, size, PIECE)
    ]
    share = min(1.0, READ / max(sum(sizes), 1))
    for place, piece in enumerate(cut):
        if int((place + 1) * share) > int(place * share):
            yield piece


def _chunks(stream: TokenStream, start: int, length: int) -> Iterator[NDArray[np.int64]]:
    """The tokens of a piece; each chunk begins WINDOW - 1 before the end of the one before."""
    for begin in range(start, start + length, CHUNK):
        first = max(start, begin - WINDOW + 1)
        last = min(begin + CHUNK, start + length)
        yield stream.windows(np.array([first]), last - first)[0]
