"""Files to documents: every kind of file, every kind of fault, counted and named."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmkit.data.readers import BadRows, read_documents
from llmkit.errors import InputError

ROWS = [{"text": "one", "id": 7, "url": "https://a.example"}, {"text": "two\r\n", "extra": [1]}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def read(path, column="text", encoding="utf-8", allowed=0):
    bad_rows = BadRows(allowed)
    documents = list(read_documents(path, path.name, column, encoding, bad_rows))
    return documents, bad_rows


def write(path, content):
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content.encode()))
    elif path.suffix == ".zst":
        with pa.CompressedOutputStream(str(path), "zstd") as stream:
            stream.write(content.encode())
    else:
        path.write_bytes(content.encode())
    return path


@pytest.mark.parametrize(
    "suffix", [".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz", ".jsonl.zst"]
)
def test_json_lines_plain_and_compressed(tmp_path, suffix):
    documents, bad_rows = read(write(tmp_path / f"a{suffix}", LINES + "\n  \n"))
    assert [d.text for d in documents] == ["one", "two\r\n"]
    assert [d.id for d in documents] == ["7", f"a{suffix}:2"]
    assert documents[0].metadata == {"url": "https://a.example", "file_path": f"a{suffix}"}
    assert bad_rows.count == 0


def test_parquet_with_finewebs_columns(tmp_path):
    path = tmp_path / "a.parquet"
    columns = {
        "body": ["one", "two"],
        "id": ["x", None],
        "language_score": [0.5, None],
        "n": [1, 2],
    }
    pq.write_table(pa.table(columns), path)
    documents, _ = read(path, column="body")
    assert [(d.text, d.id) for d in documents] == [("one", "x"), ("two", "a.parquet:2")]
    assert documents[0].metadata == {"language_score": 0.5, "file_path": "a.parquet"}


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".txt.zst"])
def test_a_text_file_is_one_document_with_plain_line_ends(tmp_path, suffix):
    documents, _ = read(write(tmp_path / f"a{suffix}", "\ufeffone\r\ntwo\rthree\n"))
    assert [d.text for d in documents] == ["one\ntwo\nthree\n"]
    assert documents[0].id == f"a{suffix}"


def test_text_in_another_encoding(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("line\ncafé\n".encode("latin-1"))
    assert read(path, encoding="latin-1")[0][0].text == "line\ncafé\n"
    with pytest.raises(InputError, match=r"a\.txt:2: not utf-8: .*set the source's encoding"):
        read(path)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{not json", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"body": "x"}', "no column 'text' (there are: body)"),
        ('{"text": null}', "'text' holds NoneType, not text"),
        ('{"text": 3}', "'text' holds int, not text"),
        ('{"text": "\\ud800"}', "lone surrogate"),
        ('{"text": "x", "token_count": "many"}', "'token_count' holds 'many', not a number"),
        ('["text"]', "write one object a line"),
        ('"text"', "holds str where a JSON object was expected"),
    ],
)
def test_a_bad_line_stops_or_is_counted(tmp_path, line, what):
    path = write(tmp_path / "a.jsonl", f'{{"text": "good"}}\n{line}\n{{"text": "also"}}\n')
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}:2: ") and what in str(error.value)
    assert "max_bad_rows (now 0)" in str(error.value)
    documents, bad_rows = read(path, allowed=1)
    assert [d.text for d in documents] == ["good", "also"]
    assert bad_rows.count == 1 and bad_rows.named[0].startswith("a.jsonl:2: ")


def test_bytes_that_are_no_utf8_in_a_json_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "caf\xe9"}\n')
    with pytest.raises(InputError, match=r"a\.jsonl:1: not JSON"):
        read(path)


def test_one_bad_row_more_than_allowed_stops(tmp_path):
    path = write(tmp_path / "a.jsonl", "x\n" * 3 + LINES)
    assert read(path, allowed=3)[1].count == 3
    with pytest.raises(InputError, match=r"a\.jsonl:3: .*\(now 2\)"):
        read(path, allowed=2)


def test_parquet_faults(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["one", None], "body": ["x", "y"]}), path)
    with pytest.raises(
        InputError, match=r"a\.parquet: no column 'txt'; set `column:` to .*text, body"
    ):
        read(path, column="txt")
    with pytest.raises(InputError, match=r"a\.parquet:2: 'text' holds NoneType"):
        read(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read"):
        read(path)


def test_truncated_and_false_archives(tmp_path):
    path = write(tmp_path / "a.jsonl.gz", LINES * 500)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"a\.jsonl\.gz: cannot be read"):
        read(path)
    path = write(tmp_path / "a.jsonl.zst", LINES * 500)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"a\.jsonl\.zst: cannot be read"):
        read(path)
    for name in ("b.jsonl.gz", "b.jsonl.zst", "b.txt.gz"):
        (tmp_path / name).write_bytes(b"plain text, no archive")
        with pytest.raises(InputError, match=f"{name}: cannot be read"):
            read(tmp_path / name)


def test_missing_and_unknown_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "a.jsonl")
    with pytest.raises(InputError, match=r"a\.docx: unknown kind of file; known are .*\.parquet"):
        read(tmp_path / "a.docx")
