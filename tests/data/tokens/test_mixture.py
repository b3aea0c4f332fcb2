"""Several sets, each with exactly its share, in an order that each index alone decides."""

import numpy as np
import pytest
import torch

from llmkit.data.tokens import mixture
from llmkit.data.tokens.mixture import MixedWindows, Part, by_weight
from llmkit.data.tokens.shard_files import ShardWriter, write_json
from llmkit.data.tokens.shards import TokenWindows
from llmkit.errors import InputError

LENGTH = 4


def shards(folder, first, windows, eos=999):
    """A set of so many windows whose tokens count up from `first`."""
    (folder / "scratch").mkdir(parents=True)
    splits = {}
    for split in ("train", "validation"):
        writer = ShardWriter(
            folder, folder / "scratch", split, vocab_size=1000, eos=eos, shard_tokens=30
        )
        count = windows * LENGTH if split == "train" else 8
        for start in range(0, count, 10):
            size = min(10, count - start) - 1
            writer.add([list(range(first + start, first + start + size))], [size])
        splits[split] = writer.finish()
    head = {"dtype": "uint16", "vocab_size": 1000, "eos_token_id": eos, "context_length": LENGTH}
    write_json(folder / "index.json", {**head, "splits": splits})
    return folder


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    return [shards(root / str(i), 300 * i, n) for i, n in enumerate((10, 25, 40))]


def test_weights_are_met_to_the_sample(three, monkeypatch):
    monkeypatch.setattr(mixture, "BLOCK", 64)
    parts = [Part(folder=f, weight=w) for f, w in zip(three, (0.5, 0.3, 0.2), strict=True)]
    mixed = MixedWindows(parts, LENGTH, seed=1, num_samples=1001)
    numbers, places = mixed.places(np.arange(1001))
    assert np.bincount(numbers).tolist() == [501, 300, 200]
    for number, count in enumerate((501, 300, 200)):
        # A set's windows come as often as one another, epoch after epoch.
        size = (10, 25, 40)[number]
        own = places[numbers == number]
        times = np.bincount(own, minlength=size)
        assert len(times) == size and set(times.tolist()) <= {count // size, -(-count // size)}
        assert times.sum() == count
    # In every stretch of the run, near its share.
    for start in range(0, 1001 - 128, 128):
        assert abs((numbers[start : start + 128] == 0).sum() - 64) < 20


def test_epochs_read_a_set_so_often(three):
    parts = [Part(folder=f, epochs=e) for f, e in zip(three, (2, 1, 0.5), strict=True)]
    mixed = MixedWindows(parts, LENGTH, seed=3)
    assert len(mixed) == 20 + 25 + 20
    rows = [tuple(row["input_ids"].tolist()) for row in mixed]
    for folder, times in zip(three[:2], (2, 1), strict=True):
        windows = [
            tuple(row["input_ids"].tolist()) for row in TokenWindows(folder, "train", LENGTH)
        ]
        assert all(rows.count(window) == times for window in windows)


def test_an_index_alone_says_what_is_read(three):
    parts = [Part(folder=f, weight=1) for f in three]
    mixed = MixedWindows(parts, LENGTH, seed=2, num_samples=300, document_masking=True)
    whole = mixed.batch(range(300))
    for name, values in whole.items():
        for index in (0, 17, 299):
            assert torch.equal(mixed[index][name], values[index])
    assert set(whole) == {"input_ids", "labels", "position_ids"}
    other = MixedWindows(parts, LENGTH, seed=5, num_samples=300).batch(range(300))
    assert not torch.equal(other["input_ids"], whole["input_ids"])


def test_largest_remainders():
    assert by_weight([1, 1, 1], 10).tolist() == [4, 3, 3]
    assert by_weight([0.7, 0.2, 0.1], 7).tolist() == [5, 1, 1]


def test_what_makes_no_mixture_is_said(three, tmp_path):
    one, two = Part(folder=three[0], weight=1), Part(folder=three[1], epochs=1)
    for parts, samples in (([one, two], 10), ([one], None), ([], 10), ([two], 10)):
        with pytest.raises(InputError, match="do not say how much"):
            MixedWindows(parts, LENGTH, num_samples=samples)
    with pytest.raises(InputError, match="not all positive"):
        MixedWindows([one, Part(folder=three[1], weight=0)], LENGTH, num_samples=10)
    other = Part(folder=shards(tmp_path / "other", 0, 10, eos=998), weight=1)
    with pytest.raises(InputError, match="end-of-text ids differ"):
        MixedWindows([one, other], LENGTH, num_samples=10)
    with pytest.raises(IndexError):
        MixedWindows([one], LENGTH, num_samples=10).batch([10])
