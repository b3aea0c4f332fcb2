"""Clusters of documents that share a key: a sort and a union-find, in bounded memory.

The keys lie on disk, a file a block (`Signatures.keys`). For each band they are read a range of the
first word at a time, as many as fit, and sorted; equal neighbours are joined. What is in memory at
once is 4 bytes a document (the first member of its cluster) and KEYS_AT_ONCE keys.

Components are found with whole arrays: of every pair the larger root is hooked below the smaller
one until no pair has two roots, as in Shiloach and Vishkin 1982
(https://doi.org/10.1016/0196-6774(82)90008-6). Roots only ever get smaller, so that a cluster's
root is its first document, in whatever order the pairs come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

KEYS_AT_ONCE = 1 << 22  # sorted at a time: about 200 MB with what sorting takes
Numbers: TypeAlias = NDArray[Any]  # of documents, uint32 or uint64
Keys: TypeAlias = NDArray[np.uint64]


def first_members(files: Sequence[Path], at_once: int = KEYS_AT_ONCE) -> Numbers:
    """The number of the first document in each document's cluster; its own where it is the first.

    Documents are numbered through `files` (`.npy` of (bands, words, documents) uint64) from 0.
    """
    shapes = [np.load(file, mmap_mode="r").shape for file in files]
    total = sum(shape[2] for shape in shapes)
    firsts = np.arange(total, dtype=np.uint32 if total < 2**32 else np.uint64)
    for band in range(shapes[0][0] if shapes else 0):
        for keys, numbers in _ranges(files, band, total, at_once):
            unite(firsts, *_pairs(keys, numbers))
    return settled(firsts)


def _ranges(
    files: Sequence[Path], band: int, total: int, at_once: int
) -> Iterator[tuple[Keys, Numbers]]:
    """(words, some) keys of a band and their documents' numbers, a range of the first word each."""
    ranges = max(1, -(-total // at_once))
    edges = [(2**64 * edge) // ranges for edge in range(ranges + 1)]
    for low, high in zip(edges, edges[1:], strict=False):
        found: list[Keys] = []
        numbers: list[Numbers] = []
        start = 0
        for file in files:
            keys = np.array(np.load(file, mmap_mode="r")[band])
            inside = (keys[0] >= np.uint64(max(low, 1))) & (keys[0] <= np.uint64(high - 1))
            found.append(keys[:, inside])
            numbers.append(np.flatnonzero(inside) + start)
            start += keys.shape[1]
        yield np.concatenate(found, axis=1), np.concatenate(numbers)


def _pairs(keys: Keys, numbers: Numbers) -> tuple[Numbers, Numbers]:
    """The first document with a key, and each later one with the same."""
    order = np.lexsort(keys[::-1])  # stable, so that equal keys stay in the documents' order
    keys, numbers = keys[:, order], numbers[order]
    same: NDArray[np.bool_] = np.zeros(len(numbers), bool)
    same[1:] = (keys[:, 1:] == keys[:, :-1]).all(axis=0)
    places = np.arange(len(numbers))
    heads = np.maximum.accumulate(np.where(same, 0, places))
    return numbers[heads[same]], numbers[same]


def unite(firsts: Numbers, ones: Numbers, others: Numbers) -> None:
    """Join the clusters of each pair, in place."""
    while len(ones):
        ones, others = _roots(firsts, ones), _roots(firsts, others)
        apart = ones != others
        ones, others = ones[apart], others[apart]
        lower, higher = np.minimum(ones, others), np.maximum(ones, others)
        np.minimum.at(firsts, higher, lower)


def _roots(firsts: Numbers, numbers: Numbers) -> Numbers:
    roots = firsts[numbers]
    while (above := firsts[roots]).tobytes() != roots.tobytes():
        roots = above
    firsts[numbers] = roots
    return roots


def settled(firsts: Numbers) -> Numbers:
    """Every document directly below its cluster's first one."""
    while ((above := firsts[firsts]) != firsts).any():
        firsts = above
    return firsts


def cluster_sizes(firsts: Numbers) -> dict[str, Any]:
    """How many documents have duplicates, in clusters of which sizes."""
    later = firsts[firsts != np.arange(len(firsts), dtype=firsts.dtype)]
    sizes = np.unique(later, return_counts=True)[1] + 1
    edges = {"2": (2, 2), "3-5": (3, 5), "6-10": (6, 10), "11-100": (11, 100)}
    counts = {
        name: int(((sizes >= low) & (sizes <= high)).sum()) for name, (low, high) in edges.items()
    }
    return {
        "documents": len(firsts),
        "duplicates": len(later),
        "clusters": len(sizes),
        "largest": int(sizes.max(initial=1)),
        "clusters_of": counts | {"over 100": int((sizes > 100).sum())},
    }
