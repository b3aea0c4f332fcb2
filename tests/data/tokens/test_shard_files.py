"""Shards hold the documents that were added, in the layout that stands in the module."""

import hashlib

import numpy as np
import pytest

from llmkit.data.tokens.shard_audit import audit, seen_in_training
from llmkit.data.tokens.shard_files import (
    ShardWriter,
    read_index,
    stored_dtype,
    token_dtype,
    verify,
    write_json,
)
from llmkit.errors import InputError

EOS = 9
DOCUMENTS = [[1, 2, 3], [], [4], [5, 6, 7, 8, 5, 6, 7], [1], [2, 2]]
SIZES = [30, 0, 10, 70, 11, 22]


def writer(folder, split="train", shard_tokens=6, vocab_size=10):
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    return ShardWriter(
        folder, scratch, split, vocab_size=vocab_size, eos=EOS, shard_tokens=shard_tokens
    )


def write(folder, batch=6):
    writing = writer(folder)
    for i in range(0, len(DOCUMENTS), batch):
        writing.add(DOCUMENTS[i : i + batch], SIZES[i : i + batch])
    return index_of(folder, writing)


def index_of(folder, writing):
    index = {
        "dtype": writing.dtype.name,
        "vocab_size": writing.vocab_size,
        "eos_token_id": EOS,
        "context_length": 4,
        "splits": {"train": writing.finish(), "validation": writer(folder, "validation").finish()},
    }
    write_json(folder / "index.json", index)
    return index


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_the_bytes_worked_by_hand(tmp_path):
    train = write(tmp_path)["splits"]["train"]
    # A shard is closed by the document that brings it to six tokens or more.
    first, second, third = [1, 2, 3, 9, 9, 4, 9], [5, 6, 7, 8, 5, 6, 7, 9], [1, 9, 2, 2, 9]
    for number, tokens in enumerate([first, second, third]):
        expected = b"".join(token.to_bytes(2, "little") for token in tokens)
        assert (tmp_path / f"train-{number:05d}.bin").read_bytes() == expected
        assert train["shards"][number]["sha256"] == hashlib.sha256(expected).hexdigest()
    assert np.load(tmp_path / "train-00000.ends.npy").tolist() == [4, 5, 7]
    assert np.load(tmp_path / "train-00001.ends.npy").tolist() == [8]
    assert np.load(tmp_path / "train-00002.ends.npy").dtype == np.uint64
    assert [shard["bytes"] for shard in train["shards"]] == [40, 70, 33]
    assert (train["tokens"], train["documents"], train["bytes"]) == (20, 6, 143)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_batches_do_not_show_in_the_bytes(tmp_path, batch):
    write(tmp_path / "whole")
    write(tmp_path / "batches", batch)
    assert files(tmp_path / "whole") == files(tmp_path / "batches")


@pytest.mark.parametrize("before", [1, 3, 4, 5])
def test_going_on_after_a_kill_gives_the_same_bytes(tmp_path, before):
    write(tmp_path / "whole")
    killed = tmp_path / "killed"
    with writer(killed) as first:
        first.add(DOCUMENTS[:before], SIZES[:before])  # and never finished
    again = writer(killed)
    done = sum(shard.documents for shard in again.shards)
    assert done == {1: 0, 3: 3, 4: 4, 5: 4}[before]
    again.add(DOCUMENTS[done:], SIZES[done:])
    index_of(killed, again)
    assert files(tmp_path / "whole") == files(killed)


@pytest.mark.parametrize("file", ["train-00001.bin", "train-00001.ends.npy"])
def test_a_damaged_shard_and_those_behind_it_are_written_again(tmp_path, file):
    write(tmp_path)
    data = bytearray((tmp_path / file).read_bytes())
    data[-1] ^= 1
    (tmp_path / file).write_bytes(data)
    assert len(writer(tmp_path).shards) == 1
    with pytest.raises(InputError, match=f"changed since written: {file}"):
        verify(tmp_path)


def test_four_bytes_only_where_two_do_not_suffice(tmp_path):
    assert (token_dtype(65_536), token_dtype(65_537)) == (np.dtype("<u2"), np.dtype("<u4"))
    writing = writer(tmp_path, vocab_size=70_000)
    writing.add([[69_999, 65_536]], [8])
    writing.finish()
    expected = b"".join(token.to_bytes(4, "little") for token in (69_999, 65_536, EOS))
    assert (tmp_path / "train-00000.bin").read_bytes() == expected


@pytest.mark.parametrize("token", [10, 65_546, -1])
def test_an_id_outside_the_vocabulary_never_reaches_the_disk(tmp_path, token):
    with pytest.raises(InputError, match="its vocabulary is 10"):
        writer(tmp_path).add([[1, token]], [2])


def test_the_audit_reads_what_is_on_the_disk(tmp_path):
    write(tmp_path)
    found = audit(tmp_path)
    assert (found.largest_id, found.documents, found.ends_of_text, found.misplaced) == (9, 6, 6, 0)
    tokens = np.fromfile(tmp_path / "train-00000.bin", dtype="<u2")
    tokens[3], tokens[0] = 12, EOS  # the first document loses its end, and gets one in its midst
    tokens.tofile(tmp_path / "train-00000.bin")
    found = audit(tmp_path)
    assert (found.largest_id, found.ends_of_text, found.misplaced) == (12, 6, 1)


def test_a_folder_that_is_not_whole_is_refused_at_once(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_index(tmp_path)
    write(tmp_path)
    verify(tmp_path)
    (tmp_path / "train-00001.bin").write_bytes(b"\0\0")
    with pytest.raises(InputError, match="has 2 bytes where 16 are due"):
        read_index(tmp_path)
    (tmp_path / "train-00001.bin").unlink()
    with pytest.raises(InputError, match="train-00001.bin: has 0 bytes"):
        read_index(tmp_path)
    (tmp_path / "index.json").write_text('{"dtype": "uint16"}')
    with pytest.raises(InputError, match="is not an index of shards"):
        read_index(tmp_path)


def test_tokens_are_little_endian_whatever_the_machine(tmp_path):
    assert stored_dtype({"dtype": "uint16"}).str == "<u2"
    assert stored_dtype({"dtype": "uint32"}).str == "<u4"
    index = write(tmp_path)
    write_json(tmp_path / "index.json", index | {"dtype": "float16"})
    with pytest.raises(InputError, match="is not an index of shards"):
        read_index(tmp_path)


def test_validation_documents_that_are_trained_on_are_counted(tmp_path):
    training, held_out = writer(tmp_path), writer(tmp_path, "validation")
    training.add(DOCUMENTS, SIZES)
    # [1, 2] and [2] are parts of training documents; [4], twice, and [1] are such documents.
    held_out.add([[1, 2], [4], [2], [1], [4]], [1] * 5)
    index = index_of(tmp_path, training)
    index["splits"]["validation"] = held_out.finish()
    write_json(tmp_path / "index.json", index)
    assert seen_in_training(tmp_path) == 3
