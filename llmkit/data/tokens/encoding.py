"""Documents into shards: read once, encoded in batches, each to the writer of its split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from llmkit.data.documents import iter_texts
from llmkit.data.tokens.encoding_backend import Choice
from llmkit.data.tokens.holdout import Holdout
from llmkit.data.tokens.shard_files import ShardWriter
from llmkit.progress import Progress

BATCH_BYTES = 4_000_000  # of text encoded at once: enough for all cores, little memory


def encode(
    label: str,
    holdout: Holdout,
    folder: Path,
    choice: Choice,
    writers: Mapping[str, ShardWriter],
) -> None:
    """Encode the documents that are not in the writers' finished shards.

    Ends early where the backend has given a wrong id.
    """
    finished = {s: sum(shard.documents for shard in w.shards) for s, w in writers.items()}
    with Progress(f"{label}: encoding", sum(holdout.bytes.values()), "bytes") as progress:
        progress.start_at(sum(shard.bytes for w in writers.values() for shard in w.shards))
        fresh = unfinished(holdout.divided(iter_texts(folder)), finished)
        for texts, sizes, splits in batches(fresh, BATCH_BYTES):
            ids, lengths = choice.encode(texts)
            if choice.differing:
                return
            of_split, of_text = np.array(splits), np.array(sizes, dtype=np.int64)
            for split, writer in writers.items():
                own = of_split == split
                if own.any():
                    writer.add_flat(ids[np.repeat(own, lengths)], lengths[own], of_text[own])
            progress.update(sum(sizes))


def unfinished(
    texts: Iterable[tuple[str, int, str]], finished: Mapping[str, int]
) -> Iterator[tuple[str, int, str]]:
    """The texts without the first so many of each split."""
    left = dict(finished)
    for text, size, split in texts:
        if left[split] > 0:
            left[split] -= 1
        else:
            yield text, size, split


def batches(
    texts: Iterable[tuple[str, int, str]], max_bytes: int
) -> Iterator[tuple[list[str], list[int], list[str]]]:
    """Texts, their UTF-8 bytes and their splits in lists, each closed by the text that fills it."""
    batch: list[tuple[str, int, str]] = []
    total = 0
    for item in texts:
        batch.append(item)
        total += item[1]
        if total >= max_bytes:
            yield _columns(batch)
            batch, total = [], 0
    if batch:
        yield _columns(batch)


def _columns(batch: list[tuple[str, int, str]]) -> tuple[list[str], list[int], list[str]]:
    return [row[0] for row in batch], [row[1] for row in batch], [row[2] for row in batch]
