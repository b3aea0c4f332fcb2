"""A fastText model such as lid.176.ftz as arrays, for `language_scores.py`.

Format and tree follow
https://github.com/facebookresearch/fastText/tree/v0.9.2/src
(`fasttext.cc`, `dictionary.cc`, `quantmatrix.cc`, `productquantizer.cc`, `loss.cc`).
"""

from __future__ import annotations

import struct
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[Any]

END = b"</s>"  # of a line; a word of its own
LABEL = b"__label__"
MAGIC, VERSION, HIERARCHICAL, SUPERVISED = 793712314, 12, 1, 3
CENTROIDS = 256
NO_ROW = -1
UNBUILT = 10**15  # more than any count


class LanguageModel(NamedTuple):
    """What a model file holds, in the form in which it is asked for."""

    words: dict[bytes, int]  # -> row
    buckets: Numbers  # row of each hash of a piece, or NO_ROW
    rows: Numbers  # [row, width]
    shortest: int  # characters of a piece
    longest: int
    nodes: Numbers  # [width, node]
    ways: Numbers  # [depth, label]: places in (log(1 - f) of all nodes, log f of all nodes, 0)
    labels: list[str]


class _Reader:
    """Takes one field after another off a little-endian file."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        self.place = 0

    def take(self, form: str) -> tuple[Any, ...]:
        fields = struct.unpack_from("<" + form, self.data, self.place)
        self.place += struct.calcsize("<" + form)
        return fields

    def array(self, kind: Any, number: int) -> Numbers:
        found: Numbers = np.frombuffer(self.data, kind, number, self.place)
        self.place += found.nbytes
        return found

    def word(self) -> bytes:
        end = self.data.index(b"\0", self.place)
        word = self.data[self.place : end]
        self.place = end + 1
        return word


def read_model(path: Path) -> LanguageModel | None:
    """The model in a file, None if it is not compressed as lid.176.ftz is."""
    file = _Reader(path)
    magic, version, width, *_, word_ngrams, loss, kind, bucket, shortest, longest, _, _ = file.take(
        "14id"
    )
    entries, words, labels, _, kept = file.take("iiiqq")
    expected = (MAGIC, VERSION, 1, HIERARCHICAL, SUPERVISED)
    if (magic, version, word_ngrams, loss, kind) != expected or shortest < 2 or kept <= 0:
        return None
    names = [(file.word(), *file.take("qb")) for _ in range(entries)]
    pruned = file.array(np.int32, 2 * kept).reshape(kept, 2)
    buckets = np.full(bucket, NO_ROW, np.int32)
    buckets[pruned[:, 0]] = words + pruned[:, 1]
    if file.take("?") != (True,):
        return None
    rows = _quantized(file)
    if file.take("?") != (False,) or names[0][0] != END:
        return None
    number, width = file.take("qq")
    nodes = file.array(np.float32, number * width).reshape(number, width)[: labels - 1]
    return LanguageModel(
        words={name: row for row, (name, *_) in enumerate(names[:words])},
        buckets=buckets,
        rows=rows,
        shortest=shortest,
        longest=longest,
        nodes=np.ascontiguousarray(nodes.T),
        ways=_ways([count for _, count, _ in names[words:]]),
        labels=[name.removeprefix(LABEL).decode() for name, *_ in names[words:]],
    )


def _quantized(file: _Reader) -> Numbers:
    """Rows of an input matrix, each of centroids of its parts times a centroid for its norm."""
    with_norm, number, width, size = file.take("?qqi")
    codes = file.array(np.uint8, size).reshape(number, -1)
    parts = _centroids(file, codes)
    if with_norm:
        parts = parts * _centroids(file, file.array(np.uint8, number).reshape(number, 1))
    return np.ascontiguousarray(parts[:, :width])


def _centroids(file: _Reader, codes: Numbers) -> Numbers:
    width, number, size, _ = file.take("iiii")
    table = file.array(np.float32, width * CENTROIDS)
    tables = np.split(table, range(CENTROIDS * size, CENTROIDS * size * number, CENTROIDS * size))
    parts = [part.reshape(CENTROIDS, -1)[code] for part, code in zip(tables, codes.T, strict=True)]
    return np.concatenate(parts, axis=1)


def _ways(counts: list[int]) -> Numbers:
    """The way from the root to each label of the Huffman tree, the most frequent label first."""
    labels = len(counts)
    totals = [*counts, *repeat(UNBUILT, labels - 1)]
    above: dict[int, tuple[int, int]] = {}  # node -> its parent, and what the step from it adds
    leaf, node = labels - 1, labels
    for parent in range(labels, 2 * labels - 1):
        children = []
        for _ in range(2):
            if leaf >= 0 and totals[leaf] < totals[node]:
                children.append(leaf)
                leaf -= 1
            else:
                children.append(node)
                node += 1
        totals[parent] = sum(totals[child] for child in children)
        for side, child in enumerate(children):
            above[child] = parent, side * (labels - 1) + parent - labels
    ways = []
    for place in range(labels):
        way = []
        while place in above:
            place, step = above[place]
            way.append(step)
        ways.append(way[::-1])
    depth = max(map(len, ways))
    padded = [way + [2 * (labels - 1)] * (depth - len(way)) for way in ways]
    return np.ascontiguousarray(np.array(padded).T)  # so that numpy adds from the root on
