"""Files to documents: every kind of file, every kind of fault, counted and named."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import http, warc

from llmkit.data.sources import guarded, readers
from llmkit.data.sources.readers import BadRows, read_documents
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
    assert set_aside(path, path.read_bytes()[:-20]) == ([], {"corrupt": 1})


def set_aside(path, content):
    """The texts that a file of this content still gives, and why it was set aside."""
    path.write_bytes(content)
    documents, bad_rows = read(path)
    assert bad_rows.count == 0
    assert [entry["where"] for entry in bad_rows.quarantine.named] == [path.name]
    return [document.text for document in documents], dict(bad_rows.quarantine.counts)


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_broken_archive_gives_what_is_before_the_damage(tmp_path, suffix):
    lines = "".join(json.dumps({"text": f"text {n * n}"}) + "\n" for n in range(40_000))
    path = write(tmp_path / f"a.jsonl.{suffix}", lines)
    texts, reasons = set_aside(path, path.read_bytes()[:-30])
    assert reasons == {"truncated": 1}
    assert texts == [f"text {n * n}" for n in range(len(texts))] and len(texts) > 1000


def test_files_that_are_not_what_they_say_are_set_aside(tmp_path):
    for name in ("b.jsonl.gz", "b.jsonl.zst", "b.txt.gz", "b.parquet", "b.html.gz"):
        content = b"\x1f\x8b\x08\0 broken" if "html" in name else b"plain text, no archive"
        assert set_aside(tmp_path / name, content)[1] in ({"corrupt": 1}, {"truncated": 1})
        assert set_aside(tmp_path / name, b"") == ([], {"empty": 1})


def test_a_bomb_is_set_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(guarded, "BURST", 1 << 20)
    bomb = gzip.compress(LINES.encode()) + gzip.compress(b"\n" * (8 << 20))
    assert set_aside(tmp_path / "a.jsonl.gz", bomb) == (["one", "two\r\n"], {"bomb": 1})


def test_pages_and_archives_are_read_and_nothing_of_them_is_a_bad_row(tmp_path):
    pytest.importorskip("fastwarc")
    path = tmp_path / "a.warc"
    path.write_bytes(warc(http(b"<p>page</p>")) + warc(b"cut", length=99))
    documents, bad_rows = read(path)
    assert [d.text for d in documents] == ["<p>page</p>"] and bad_rows.count == 0
    assert bad_rows.quarantine.counts == {"truncated": 1}
    (tmp_path / "a.html").write_bytes(b"<p>page</p>")
    assert [d.metadata["media_type"] for d in read(tmp_path / "a.html")[0]] == ["text/html"]


def test_lines_longer_than_a_row_may_be_are_one_bad_row_each(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_ROW", 1000)
    long = json.dumps({"text": "x" * 5000})
    path = write(tmp_path / "a.jsonl", f'{long}\n{{"text": "good"}}\n{long}')
    documents, bad_rows = read(path, allowed=9)
    assert [(d.text, d.id) for d in documents] == [("good", "a.jsonl:2")]
    assert bad_rows.named == [f"a.jsonl:{n}: a line of more than 1000 bytes" for n in (1, 3)]


def test_deep_nesting_inside_a_row_is_a_bad_row(tmp_path):
    deep = '{"text": ' + "[" * 10_000 + "]" * 10_000 + "}"
    assert read(write(tmp_path / "a.jsonl", deep), allowed=1)[1].count == 1


def test_faults_can_always_be_written(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"\\ud800": 1}\n{"text": "x", "token_count": 1e999}\n')
    bad_rows = read(path, allowed=2)[1]
    assert bad_rows.count == 2
    json.dumps(bad_rows.named, ensure_ascii=False).encode()
    long = write(tmp_path / "b.jsonl", json.dumps({"k" * 100_000: 1}))
    assert len(read(long, allowed=1)[1].named[0]) < 400


def test_nuls_are_characters_like_others(tmp_path):
    assert read(write(tmp_path / "a.jsonl", '{"text": "a\\u0000b"}'))[0][0].text == "a\0b"


def test_faults_of_parts_add_up_to_those_of_the_whole():
    whole, added, part = BadRows(5), BadRows(5), BadRows(5)
    for number in range(4):
        for rows in (whole, part):
            rows.add(f"/data/a:{number}", f"a:{number}", "bad")
            rows.quarantine.set_aside(f"b:{number}", "bomb")
        added.take(part.drain())
    assert added == whole and part == BadRows(5)
    part.add("/data/a:4", "a:4", "bad")
    part.add("/data/a:5", "a:5", "worse")
    with pytest.raises(InputError, match=r"/data/a:5: worse; .*max_bad_rows \(now 5\)"):
        added.take(part)


def test_missing_and_unknown_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "a.jsonl")
    (tmp_path / "a.docx").write_bytes(b"words")
    with pytest.raises(InputError, match=r"a\.docx: unknown kind of file; known are .*\.parquet"):
        read(tmp_path / "a.docx")
