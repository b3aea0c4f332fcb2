"""A second look at finished shards, in the files themselves: ids, ends, and equal documents."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.data.tokens.shard_files import memmapped, read_index, shards_of


@dataclass(kw_only=True)
class Audit:
    """What a reading of all shards found."""

    largest_id: int = -1
    documents: int = 0
    ends_of_text: int = 0  # tokens that are end-of-text; as many as documents
    misplaced: int = 0  # document ends at which no end-of-text stands


def audit(folder: Path) -> Audit:
    """Count what the gates ask about in the files themselves, sixteen million tokens at a time."""
    index, found, block = read_index(folder), Audit(), 2**24
    for shard in shards_of(index):
        tokens = memmapped(folder, shard, index)
        ends = np.load(folder / shard.ends_file)
        for start in range(0, len(tokens), block):
            part = tokens[start : start + block]
            found.largest_id = max(found.largest_id, int(part.max()))
            found.ends_of_text += int((part == index["eos_token_id"]).sum())
        found.documents += len(ends)
        found.misplaced += int((tokens[ends - np.uint64(1)] != index["eos_token_id"]).sum())
        found.misplaced += int(ends[-1] != len(tokens))
    return found


def seen_in_training(folder: Path) -> int:
    """How many validation documents stand in training too, token for token (about 1 us each)."""
    index = read_index(folder)
    held_out = Counter(_document_hashes(folder, index, "validation"))
    trained = set(held_out).intersection(_document_hashes(folder, index, "train"))
    return sum(held_out[number] for number in trained)


def _document_hashes(folder: Path, index: dict[str, Any], split: str) -> Iterator[bytes]:
    for shard in shards_of(index, split):
        # As a plain array: slicing one is several times quicker than slicing a memmap.
        tokens: NDArray[Any] = np.asarray(memmapped(folder, shard, index))
        start = 0
        for end in np.load(folder / shard.ends_file).tolist():
            yield hashlib.blake2b(tokens[start:end].data, digest_size=16).digest()
            start = end
