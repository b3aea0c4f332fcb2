"""HTTP answers: read as the standard library reads them, and unpacked within bounds."""

import gzip
import http.client
import io

import pytest

from llmkit.data.sources.http_answer import BrokenBody, answer_of, unpacked_body

pytest.importorskip("fastwarc")
HEADERS = [
    ["Content-Type: text/html; charset=utf-8", "Server: x"],
    ["content-type:TEXT/HTML;Charset='ISO-8859-1'"],
    ['Content-Type: application/xhtml+xml; profile=x; charset="koi8-r" '],
    ["X-Other: a: b", "Content-Type: text/plain"],
    [],
]


@pytest.mark.parametrize("headers", HEADERS)
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_type_charset_and_status_as_the_standard_library_reads_them(headers, end):
    block = end.join(["HTTP/1.1 203 Fine", *headers, "", "body\n\nmore"]).encode()
    answer = answer_of(block)
    parsed = http.client.parse_headers(io.BytesIO(block.partition(b"\n")[2]))
    assert answer.status == 203 and answer.body == b"body\n\nmore"
    assert answer.kind == (parsed.get_content_type() if headers else "")
    theirs = parsed.get_content_charset()
    assert (answer.charset or "").lower() == (theirs or "").strip("'")


@pytest.mark.parametrize("first", ["HTTP/1.0", "HTTP/1.1 abc", "HTTP/1.1 99999", "HTTP/"])
def test_first_lines_without_a_status(first):
    assert answer_of(f"{first}\r\n\r\nx".encode()).status is None


def test_headers_that_never_end_leave_no_body():
    assert answer_of(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 9).body == b""


def body(content, coding, most=10_000):
    block = b"HTTP/1.1 200 OK\r\nContent-Encoding: " + coding + b"\r\n\r\n" + content
    return unpacked_body(block, answer_of(block), most)


def test_bodies_are_unpacked_within_bounds():
    assert body(gzip.compress(b"words"), b"gzip") == body(b"words", b"identity") == b"words"
    assert len(body(gzip.compress(b"\0" * 10_000_000), b"gzip")) == 10_001
    assert body(b"words", b"gzip") == b"words"  # unpacked before it was archived
    with pytest.raises(BrokenBody):
        body(gzip.compress(b"words")[:10] + b"\xff" * 20, b"gzip")
