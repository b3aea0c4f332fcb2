"""Clusters against a plain search through a graph, with whole keys and a few at a time."""

import random
from collections import defaultdict

import numpy as np
import pytest

from llmkit.data.curation.clusters import cluster_sizes, first_members


def reference(keys: np.ndarray) -> list[int]:
    """Breadth-first search over (bands, words, documents)."""
    holders = defaultdict(set)
    bands, _, total = keys.shape
    for band in range(bands):
        for document in range(total):
            key = tuple(keys[band, :, document].tolist())
            if key[0] != 0:
                holders[band, key].add(document)
    beside = defaultdict(set)
    for group in holders.values():
        for document in group:
            beside[document] |= group
    firsts = [-1] * total
    for start in range(total):
        waiting = [start] if firsts[start] < 0 else []
        while waiting:
            document = waiting.pop()
            if firsts[document] < 0:
                firsts[document] = start
                waiting += beside[document]
    return firsts


def written(folder, keys: np.ndarray, cuts: list[int]) -> list:
    files = []
    for number, piece in enumerate(np.split(keys, cuts, axis=2)):
        files.append(folder / f"{number}.npy")
        np.save(files[-1], piece)
    return files


@pytest.mark.parametrize("words", [1, 2])
@pytest.mark.parametrize("at_once", [7, 10**6])
def test_any_graph_any_cut(tmp_path, words, at_once):
    rng = np.random.default_rng(words)
    for different in (3, 40, 200):
        values = rng.integers(0, 2**64, different, np.uint64)
        values[0] = 0
        keys = rng.choice(values, (4, words, 150))
        cuts = sorted(random.Random(different).sample(range(150), 4))
        files = written(tmp_path, keys, [cuts[0], *cuts])  # one of the files is empty
        assert first_members(files, at_once).tolist() == reference(keys)


def test_a_chain_ends_at_its_first_document(tmp_path):
    # 99 - 98 by one band, 98 - 97 by the other, and so on down to 0.
    numbers = np.arange(100, dtype=np.uint64)
    keys = np.stack([numbers // 2 + 1, (numbers + 1) // 2 + 1])[:, None]
    assert set(first_members(written(tmp_path, keys, [50])).tolist()) == {0}


def test_keys_at_the_ends_of_the_range(tmp_path):
    keys = np.array([[[2**64 - 1, 1, 2**64 - 1, 1, 0, 0]]], np.uint64)
    assert first_members(written(tmp_path, keys, []), 2).tolist() == [0, 1, 0, 1, 4, 5]


def test_no_documents(tmp_path):
    keys = np.zeros((2, 1, 0), np.uint64)
    assert first_members(written(tmp_path, keys, [])).tolist() == []


def test_sizes_by_hand():
    firsts = np.array([0, 0, 2, 2, 2, 5, 0, 7], np.uint32)
    assert cluster_sizes(firsts) == {
        "documents": 8,
        "duplicates": 4,
        "clusters": 2,
        "largest": 3,
        "clusters_of": {"2": 0, "3-5": 2, "6-10": 0, "11-100": 0, "over 100": 0},
    }
