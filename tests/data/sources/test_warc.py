"""Web archives: which records are taken, what is known of them, and what broken ones cost."""

import gzip
import random
import zlib
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from archives import arc, http, warc

from llmkit.data.sources import warc as reader
from llmkit.data.sources.quarantine import Quarantine
from llmkit.data.sources.warc import warc_documents

pytest.importorskip("fastwarc")
REAL = Path(__file__).parents[3] / ".." / "shared" / "data"
real_archives = pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data with archives here")
BODY = b"<html><p>The body of the page.</p></html>"


def read(path):
    quarantine = Quarantine()
    return list(warc_documents(path, path.name, quarantine)), quarantine


@pytest.fixture
def read_bytes(tmp_path):
    def reading(content, name="a.warc"):
        (tmp_path / name).write_bytes(content)
        return read(tmp_path / name)

    return reading


def members(*pieces):
    return [gzip.compress(piece) for piece in pieces]


def zstd(piece):
    return bytes(pa.Codec("zstd").compress(piece, asbytes=True))


RECORDS = [
    warc(b"software: x\r\nisPartOf: CC-MAIN-2024-22\r\n", "warcinfo"),
    warc(b"GET / HTTP/1.1\r\n\r\n", "request", 1),
    *(warc(http(BODY + b"%d" % n), number=n) for n in (1, 2, 3)),
]


@pytest.mark.parametrize(
    "content",
    [
        b"".join(RECORDS),
        b"".join(members(*RECORDS)),  # a member a record, as the format asks
        gzip.compress(b"".join(RECORDS)),  # one member, as others write it
        zstd(b"".join(RECORDS)),
        b"".join(map(zstd, RECORDS)),
    ],
    ids=["plain", "gzip members", "one gzip member", "zstd", "zstd frames"],
)
def test_the_packing_makes_no_difference(read_bytes, content):
    documents, quarantine = read_bytes(content)
    assert [d.text for d in documents] == [f"{BODY.decode()}{n}" for n in (1, 2, 3)]
    assert documents[0].id == "<urn:uuid:1>"
    assert documents[0].metadata == {
        "dump": "CC-MAIN-2024-22",
        "url": "https://a.example/1",
        "date": "2024-05-01T00:00:00Z",
        "file_path": "a.warc",
        "media_type": "text/html",
    }
    assert not quarantine.counts and quarantine.passed_over == {"warcinfo": 1, "request": 1}


def test_wet_and_arc(read_bytes):
    plain = {"Content_Type": "text/plain"}
    documents, _ = read_bytes(warc("Café.\n".encode(), "conversion", 1, **plain))
    assert [(d.text, d.metadata["media_type"]) for d in documents] == [("Café.\n", "text/plain")]
    documents, _ = read_bytes(arc(http(BODY), http(BODY)), "a.arc")
    assert [d.text for d in documents] == [BODY.decode()] * 2
    assert documents[0].metadata["date"] == "2008-04-30T20:48:26Z"
    assert documents[0].id == "a.arc:2"


def test_the_dump_may_stand_in_the_name(read_bytes):
    documents, _ = read_bytes(warc(http(BODY)), "CC-MAIN-2013-48-part.warc")
    assert documents[0].metadata["dump"] == "CC-MAIN-2013-48"


HTML, PDF = {"WARC_Identified_Payload_Type": "text/html"}, "application/pdf"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (warc(http(BODY), "resource"), "resource"),
        (warc(http(b"%PDF", f"Content-Type: {PDF}")), "not_html"),
        (warc(http(BODY), WARC_Identified_Payload_Type=PDF), "not_html"),
        (warc(http(b"words", "Server: x")), "not_html"),
        (warc(http(BODY, status="404 Not Found")), "http_status"),
        (warc(http(BODY, status="301 Moved Permanently")), "http_status"),
        (warc(b"1.2.3.4", Content_Type="text/dns"), "not_html"),
    ],
)
def test_what_is_passed_over(read_bytes, record, reason):
    documents, quarantine = read_bytes(record)
    assert not documents and quarantine.passed_over == {reason: 1} and not quarantine.counts


@pytest.mark.parametrize(
    "record",
    [
        warc(http(BODY, "Content-Type: application/xhtml+xml")),
        warc(http(BODY, "content-type:TEXT/HTML;charset=x")),
        warc(http(BODY, "Content-Type: text/plain"), **HTML),  # the archive knows better
        warc(http(BODY, "Server: x")),  # no type, but it looks like a page
        warc(http(BODY).replace(b"\r\n", b"\n")),
        warc(http(gzip.compress(BODY), "Content-Type: text/html", "Content-Encoding: gzip")),
        warc(http(zlib.compress(BODY), "Content-Type: text/html", "Content-Encoding: deflate")),
        warc(http(BODY, "Content-Type: text/html", "Content-Encoding: gzip")),  # unpacked already
        warc(http(BODY, "Content-Type: text/html", "Transfer-Encoding: chunked")),
        warc(
            http(
                b"5\r\n" + BODY[:5] + b"\r\n%x\r\n" % len(BODY[5:]) + BODY[5:] + b"\r\n0\r\n\r\n",
                "Content-Type: text/html",
                "Transfer-Encoding: chunked",
            )
        ),
    ],
)
def test_what_is_taken(read_bytes, record):
    documents, quarantine = read_bytes(record)
    assert [d.text for d in documents] == [BODY.decode()], quarantine


def test_charsets_of_the_server_are_heard(read_bytes):
    body = "<html><p>Привет, мир</p></html>"
    header = "Content-Type: text/html; charset=windows-1251"
    documents, _ = read_bytes(warc(http(body.encode("cp1251"), header)))
    assert documents[0].text == body


def test_faults_are_named_and_the_rest_is_read(read_bytes, monkeypatch):
    monkeypatch.setattr(reader, "MAX_PAGE", 5000)
    headers = ("Content-Type: text/html", "Content-Encoding: gzip")
    packed = http(gzip.compress(b"\0" * 100_000), *headers)
    content = [
        warc(http(BODY), number=1, length=10),
        warc(packed, number=2),  # a bomb inside a whole archive
        warc(http(gzip.compress(BODY)[:-9], *headers), number=3),
        warc(http(bytes(range(256)) * 4), number=4),
        warc(http(BODY), number=5),
    ]
    documents, quarantine = read_bytes(b"".join(content))
    assert [d.id for d in documents][-1] == "<urn:uuid:5>"
    expected = {"wrong_length": 1, "too_long": 1, "not_text": 1}
    assert {k: v for k, v in quarantine.counts.items() if k != "bad_http"} == expected
    assert quarantine.named[0] == {
        "where": "a.warc:<urn:uuid:1>",
        "reason": "wrong_length",
        "detail": "response record of https://a.example/1",
    }


def test_a_broken_member_costs_its_own_record_only(read_bytes):
    pieces = members(*(warc(http(BODY + b"%d" % n), number=n) for n in range(6)))
    pieces[2] = pieces[2][:60] + b"\xff" * 20 + pieces[2][80:]
    pieces[4] = pieces[4][:-30]
    documents, quarantine = read_bytes(b"".join(pieces) + gzip.compress(b"WARC/1.0\r\n")[:-9])
    assert [d.id[10:-1] for d in documents] == ["0", "1", "3", "5"]
    assert sum(quarantine.counts.values()) >= 3


@pytest.mark.parametrize("seed", range(4))
def test_no_damage_stops_it_and_the_same_damage_gives_the_same(read_bytes, seed):
    rng = random.Random(seed)
    pieces = members(
        *(warc(http(BODY + rng.randbytes(9).hex().encode()), number=n) for n in range(30))
    )
    content = bytearray(b"".join(pieces))
    for _ in range(6):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    content = bytes(content[: len(content) - rng.randrange(300)])
    documents, quarantine = read_bytes(content)
    again, noted = read_bytes(content)
    assert documents == again and quarantine == noted
    assert len(documents) >= 20 and quarantine.counts


def test_an_archive_broken_everywhere_is_given_up(read_bytes, monkeypatch):
    monkeypatch.setattr(reader, "MAX_BREAKS", 3)
    pieces = members(*(warc(http(BODY), number=n) for n in range(9)))
    documents, quarantine = read_bytes(b"".join(piece[:-10] for piece in pieces))
    assert quarantine.counts["given_up"] == 1


@real_archives
def test_every_odd_file_of_warcio_is_survived():
    found, reasons = {}, Counter()
    for file in sorted((REAL / "warc_warcio").glob("example*")) + [
        REAL / "warc_warcio" / "bad.arc"
    ]:
        documents, quarantine = read(file)
        found[file.name] = len(documents)
        reasons.update(quarantine.counts)
        for document in documents:
            assert (
                document.text.encode()
                and "Example Domain" in document.text
                or "IANA" in document.text
            )
    assert found["example.warc"] == found["example.warc.gz"] == found["example.arc.gz"] == 1
    assert found["example-wrong-chunks.warc.gz"] == found["example-bad.warc.gz.bad"] == 1
    assert found["bad.arc"] == 0 and reasons["bad_header"] and reasons["wrong_length"]


@real_archives
def test_real_pages_are_those_that_fastwarc_and_warcio_find():
    """A Common Crawl slice: ids and bytes of every HTML answer, by two other readers."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    file = REAL / "warc_chatnoir" / "warcfile.warc.gz"
    documents, _ = read(file)
    theirs = {}
    for record in ArchiveIterator(str(file), record_types=WarcRecordType.response):
        if record.headers.get("WARC-Identified-Payload-Type") in reader.HTML:
            theirs[record.record_id] = record.reader.read()
    assert len(documents) == 16 == len(theirs)
    for document in documents:
        content = theirs[document.id]
        try:
            assert document.text == content.decode("utf-8-sig").replace("\0", "")
        except UnicodeDecodeError:
            assert "\ufffd" not in document.text
