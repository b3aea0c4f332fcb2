"""Kinds of files: by suffix, and by the first bytes where the suffix is unknown."""

import gzip

import pytest

from llmkit.data.sources.kinds import READABLE, kind_of


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl.gz", "json"),
        ("a.json.zst", "json"),
        ("a.txt", "text"),
        ("a.parquet", "parquet"),
        ("CC-MAIN-0.warc.gz", "warc"),
        ("CC-MAIN-0.warc.wet.gz", "warc"),
        ("a.arc", "warc"),
        ("a.warc.zst", "warc"),
        ("page.htm", "html"),
        ("page.xhtml", "html"),
    ],
)
def test_by_suffix(tmp_path, name, kind):
    assert name.endswith(READABLE)
    assert kind_of(tmp_path / name) == kind


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"WARC/1.0\r\nWARC-Type: warcinfo\r\n", "warc"),
        (gzip.compress(b"WARC/1.1\r\n", mtime=0), "warc"),
        (b"filedesc://a.arc 0.0.0.0 20140216050221 text/plain 75\n", "warc"),
        (b"PAR1\x15\x04", "parquet"),
        (b" <!DOCTYPE html><html>", "html"),
        (b"<?xml version='1.0'?>\n<html xmlns='x'>", "html"),
        (b"plain text", None),
        (gzip.compress(b"WARC/1.0" * 99)[:4], None),
        (b"", None),
    ],
)
def test_by_first_bytes_where_the_suffix_says_nothing(tmp_path, content, kind):
    file = tmp_path / "example.bad"
    file.write_bytes(content)
    assert kind_of(file) == kind
