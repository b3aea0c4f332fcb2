"""Parquet rows: bounded batches, bad values one by one, and broken files with a reason."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmkit.data.sources import parquet_rows as module
from llmkit.data.sources.guarded import Damaged
from llmkit.data.sources.parquet_rows import parquet_rows
from llmkit.errors import InputError


def test_rows_are_numbered_through_all_row_groups(tmp_path):
    table = pa.table({"text": [str(n) for n in range(25)], "other": list(range(25))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=10)
    rows = list(parquet_rows(tmp_path / "a.parquet", "text"))
    assert rows == [(n + 1, {"text": str(n)}) for n in range(25)]


def test_long_rows_are_read_a_few_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH_BYTES", 10_000)
    table = pa.table({"text": [f"{n:04}" * 250 for n in range(100)]})
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False)
    sizes = []
    monkeypatch.setattr(module, "_values", lambda batch: sizes.append(batch.num_rows) or iter(()))
    list(parquet_rows(tmp_path / "a.parquet", "text"))
    assert sum(sizes) == 100 and max(sizes) <= 10


def test_a_text_that_is_no_utf8_is_one_bad_row(tmp_path):
    raw = pa.array([b"good", b"caf\xe9", b"also"], pa.binary()).cast(pa.binary())
    text = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    pq.write_table(pa.table({"text": text}), tmp_path / "a.parquet")
    rows = list(parquet_rows(tmp_path / "a.parquet", "text"))
    assert [rows[0], rows[2]] == [(1, {"text": "good"}), (3, {"text": "also"})]
    assert isinstance(rows[1][1], str) and rows[1][1].startswith("not UTF-8")


def test_faults(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    zeros = pa.table({"text": ["\0" * 1_000_000] * 3})
    pq.write_table(zeros, path, compression="zstd", use_dictionary=False)
    with pytest.raises(InputError, match="no column 'body'; set `column:` to one of text"):
        list(parquet_rows(path, "body"))
    monkeypatch.setattr(module, "BURST", 1000)
    with pytest.raises(Damaged, match="decompression bomb") as error:
        list(parquet_rows(path, "text"))
    assert error.value.reason == "bomb"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(Damaged) as error:
        list(parquet_rows(path, "text"))
    assert error.value.reason == "corrupt"
