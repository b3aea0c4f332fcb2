"""llm.c's files byte for byte, there and back."""

import struct

import numpy as np
import pytest

from llmkit.data.tokens import llmc_bin
from llmkit.data.tokens.shard_files import ShardWriter, write_json
from llmkit.errors import InputError

EOS = 9
DOCUMENTS = {"train": [[1, 2, 3], [], [4], [5, 6, 7, 8]], "validation": [[2, 2]]}


def shards(folder, vocab_size=10):
    (folder / "scratch").mkdir(parents=True)
    splits = {}
    for split, documents in DOCUMENTS.items():
        writer = ShardWriter(
            folder, folder / "scratch", split, vocab_size=vocab_size, eos=EOS, shard_tokens=6
        )
        writer.add(documents, [1] * len(documents))
        splits[split] = writer.finish()
    head = {"dtype": writer.dtype.name, "vocab_size": vocab_size, "eos_token_id": EOS}
    write_json(folder / "index.json", {**head, "context_length": 4, "splits": splits})
    return folder


def documents_of(files):
    found = []
    for ids, lengths in llmc_bin.iter_documents(files, EOS):
        found += [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]
    return found


def test_the_bytes_worked_by_hand(tmp_path):
    files = llmc_bin.export(shards(tmp_path / "shards"), tmp_path / "out", file_tokens=7)
    assert [file.name for file in files] == [
        "val_000000.bin",
        "train_000001.bin",
        "train_000002.bin",
    ]
    # End-of-text before each document; files are cut wherever they are full.
    train = [9, 1, 2, 3, 9, 9, 4, 9, 5, 6, 7, 8]
    for file, tokens in zip(files, ([9, 2, 2], train[:7], train[7:]), strict=True):
        head = struct.pack("<3i", 20240520, 1, len(tokens)) + bytes(4 * 253)
        assert file.read_bytes() == head + struct.pack(f"<{len(tokens)}H", *tokens)


def test_large_vocabularies_take_four_bytes(tmp_path):
    files = llmc_bin.export(shards(tmp_path / "shards", 70_000), tmp_path / "out")
    data = files[0].read_bytes()
    assert data[:12] == struct.pack("<3i", 20240801, 7, 3)
    assert data[1024:] == struct.pack("<3I", 9, 2, 2)


@pytest.mark.parametrize("block", [1, 3, 100])
@pytest.mark.parametrize("file_tokens", [1, 5, 100])
def test_documents_come_back_across_files_and_blocks(tmp_path, monkeypatch, block, file_tokens):
    monkeypatch.setattr(llmc_bin, "BLOCK", block)
    llmc_bin.export(shards(tmp_path / "shards"), tmp_path / "out", file_tokens)
    splits = llmc_bin.files_of(str(tmp_path / "out"))
    assert {split: documents_of(files) for split, files in splits.items()} == DOCUMENTS


def test_tokens_before_the_first_end_are_a_document_too(tmp_path):
    for name, tokens in {"b": [7, 9, 8], "a": [5, 6]}.items():
        head = struct.pack("<3i", 20240520, 1, len(tokens)) + bytes(4 * 253)
        (tmp_path / f"{name}.bin").write_bytes(head + struct.pack(f"<{len(tokens)}H", *tokens))
    files = llmc_bin.files_of(str(tmp_path / "*.bin"))
    assert documents_of(files["train"]) == [[5, 6, 7], [8]] and files["validation"] == []


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"short", "fewer than a header"),
        (struct.pack("<3i", 1, 1, 0) + bytes(4 * 253), "magic 1 and version 1"),
        (struct.pack("<3i", 20240520, 1, 5) + bytes(4 * 253), "1024 bytes where 1034 are due"),
    ],
)
def test_other_files_are_refused(tmp_path, data, what):
    (tmp_path / "x.bin").write_bytes(data)
    with pytest.raises(InputError, match=what):
        llmc_bin.read_tokens(tmp_path / "x.bin")
    with pytest.raises(InputError, match="no llm.c file"):
        llmc_bin.files_of(str(tmp_path / "nowhere"))
