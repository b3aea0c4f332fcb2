"""Windows hold the stream's tokens, each where its index says, for any number of workers."""

import math
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, SequentialSampler

from llmkit.data.tokens.shard_files import ShardWriter, write_json
from llmkit.data.tokens.shards import TokenStream, TokenWindows
from llmkit.errors import InputError

EOS, LENGTH = 99, 8
GENERATOR = np.random.default_rng(0)
DOCUMENTS = {
    "train": [GENERATOR.integers(0, 99, GENERATOR.integers(1, 40)).tolist() for _ in range(60)],
    "validation": [GENERATOR.integers(0, 99, 12).tolist() for _ in range(5)],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("shards"), DOCUMENTS)


def write(folder, documents):
    splits = {}
    (folder / "scratch").mkdir()
    for split, rows in documents.items():
        writer = ShardWriter(
            folder, folder / "scratch", split, vocab_size=100, eos=EOS, shard_tokens=100
        )
        writer.add(rows, [10 * len(row) for row in rows])
        splits[split] = writer.finish()
    head = {"dtype": "uint16", "vocab_size": 100, "eos_token_id": EOS, "context_length": LENGTH}
    write_json(folder / "index.json", {**head, "splits": splits})
    return folder


def stream(split):
    return [token for document in DOCUMENTS[split] for token in [*document, EOS]]


def test_the_stream_is_the_documents_in_order(folder):
    tokens = TokenStream(folder, "train")
    assert len(tokens._shards) > 5
    assert [ids.tolist() for ids in tokens.iter_documents()] == [
        [*document, EOS] for document in DOCUMENTS["train"]
    ]
    assert (tokens.tokens, tokens.documents) == (len(stream("train")), 60)
    assert tokens.bytes == 10 * (len(stream("train")) - 60)


def test_windows_of_any_length_cross_shards(folder):
    tokens, expected = TokenStream(folder, "train"), stream("train")
    for length in (1, 7, 250, len(expected)):
        starts = np.arange(len(expected) - length + 1)
        got = tokens.windows(starts, length)
        assert got.tolist() == [expected[i : i + length] for i in starts]


def test_each_epoch_reads_every_window_once_in_its_own_order(folder):
    windows = TokenWindows(folder, "train", LENGTH, seed=3)
    n, expected = windows.windows_per_epoch, stream("train")
    assert len(windows) == n == len(expected) // LENGTH
    two = TokenWindows(folder, "train", LENGTH, seed=3, num_samples=2 * n)
    rows = [tuple(row["input_ids"].tolist()) for row in two]
    cut = [tuple(expected[i * LENGTH : (i + 1) * LENGTH]) for i in range(n)]
    assert sorted(rows[:n]) == sorted(rows[n:]) == sorted(cut)
    assert rows[:n] != rows[n:] and rows[:n] != cut
    assert rows[:n] == [tuple(row["input_ids"].tolist()) for row in windows]
    other = TokenWindows(folder, "train", LENGTH, seed=4)
    assert rows[:n] != [tuple(row["input_ids"].tolist()) for row in other]


def test_labels_are_the_inputs(folder):
    row = TokenWindows(folder, "train", LENGTH)[0]
    assert row["input_ids"].dtype == row["labels"].dtype == torch.int64
    assert row["input_ids"].tolist() == row["labels"].tolist()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_position_is_the_index_whatever_the_loader(folder, num_workers):
    windows = TokenWindows(folder, "train", LENGTH, seed=1, num_samples=200)
    one_by_one = torch.stack([windows[i]["input_ids"] for i in range(200)])
    loader = DataLoader(
        windows,
        batch_size=16,
        sampler=SequentialSampler(windows),
        num_workers=num_workers,
        multiprocessing_context="fork" if num_workers else None,
    )
    assert torch.equal(torch.cat([batch["input_ids"] for batch in loader]), one_by_one)


def test_a_pickle_carries_no_tokens(folder):
    windows = TokenWindows(folder, "train", LENGTH, seed=1)
    data = pickle.dumps(windows)
    assert len(data) < 1500
    assert torch.equal(pickle.loads(data)[5]["input_ids"], windows[5]["input_ids"])


def test_validation_predicts_every_token_once_in_order(folder):
    for length in (2, 7, 8, 65, 66, 67, 500):
        windows = TokenWindows(folder, "validation", length)
        rows = [windows[i] for i in range(len(windows))]
        # What a causal model is asked: after these inputs, this label.
        asked = [
            (row["input_ids"][:i].tolist(), int(row["labels"][i]))
            for row in rows
            for i in range(1, length)
            if row["labels"][i] != -100
        ]
        assert [label for _, label in asked] == stream("validation")
        assert windows.predicted == len(asked) == windows.stream.tokens == 65
        assert asked[0][0] == [EOS]
        assert all(row["input_ids"].shape == (length,) for row in rows)


def test_bits_per_byte_of_a_uniform_model(folder):
    windows = TokenWindows(folder, "validation", LENGTH)
    nats = sum(
        float(
            torch.nn.functional.cross_entropy(
                torch.zeros(LENGTH - 1, 100), row["labels"][1:], ignore_index=-100, reduction="sum"
            )
        )
        for row in windows
    )
    # 65 tokens of log2(100) bits over 5 documents of 12 tokens of 10 bytes.
    assert nats / math.log(2) / windows.stream.bytes == pytest.approx(65 * math.log2(100) / 600)


def test_outside_of_the_samples_is_an_index_error(folder):
    windows = TokenWindows(folder, "train", LENGTH, num_samples=3)
    assert len(list(windows)) == 3
    for index in (3, -1):
        with pytest.raises(IndexError):
            windows[index]


def test_too_little_for_a_window_is_said(folder, tmp_path):
    with pytest.raises(InputError, match="fewer than one window"):
        TokenWindows(folder, "train", 100_000)
    empty = write(tmp_path, {"train": DOCUMENTS["train"], "validation": []})
    with pytest.raises(InputError, match="validation has 0 tokens.*validation_fraction"):
        TokenWindows(empty, "validation", LENGTH)
    with pytest.raises(InputError, match="no split 'test'"):
        TokenStream(folder, "test")


def test_document_masking_by_hand(folder):
    plain = TokenWindows(folder, "train", LENGTH, seed=1)
    masked = TokenWindows(folder, "train", LENGTH, seed=1, document_masking=True)
    for index in range(30):
        row, ids = masked[index], plain[index]["input_ids"].tolist()
        assert row["input_ids"].tolist() == ids
        place, due = 0, []
        for token in ids:
            due.append(place)
            place = 0 if token == EOS else place + 1
        assert row["position_ids"].tolist() == due
        # Nothing of its own document stands before the first token of one.
        labels = [-100 if at == 0 else token for at, token in zip(due, ids, strict=True)]
        assert row["labels"].tolist() == labels


def test_masking_leaves_validation_every_label(folder):
    plain, masked = (
        TokenWindows(folder, "validation", LENGTH, document_masking=masking)
        for masking in (False, True)
    )
    for index in range(len(plain)):
        assert torch.equal(plain[index]["labels"], masked[index]["labels"])
    assert masked[0]["position_ids"][:2].tolist() == [0, 0]  # behind the end-of-text before all
