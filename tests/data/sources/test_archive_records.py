"""Records: as warcio cuts whole files, and going on where the lengths are wrong."""

import io
import random
from pathlib import Path

import pytest
from archives import arc, http, warc

from llmkit.data.sources import archive_records
from llmkit.data.sources.archive_records import records
from llmkit.data.sources.guarded import Damaged

REAL = Path(__file__).parents[3] / ".." / "shared" / "data"
PAGE = http(b"<p>a page of some length, so that lengths can be wrong</p>")


def cut(content):
    return list(records(io.BufferedReader(io.BytesIO(content))))


def faults(content):
    return [(record.url[-1:], record.fault) for record in cut(content)]


def test_the_fields_of_a_warc_record():
    more = {"WARC_Identified_Payload_Type": "Text/HTML; charset=x"}
    (record,) = cut(warc(PAGE, number=7, **more))
    assert (record.kind, record.id, record.url) == (
        "response",
        "<urn:uuid:7>",
        "https://a.example/7",
    )
    assert (record.date, record.mime) == ("2024-05-01T00:00:00Z", "text/html")
    assert (record.content_type, record.block) == ("application/http", PAGE)


def test_fields_that_go_on_in_the_next_line_and_addresses_in_brackets():
    head = b"WARC/1.1\nwarc-type: RESPONSE\nWARC-Target-URI: <http://a.example/\n  b>\n"
    (record,) = cut(head + b"Content-Length: 2\n\nxy")
    assert (record.kind, record.url, record.block) == ("response", "http://a.example/ b", b"xy")


@pytest.mark.parametrize("version", [1, 2])
def test_arc_records(version):
    own, one, two = cut(arc(PAGE, b"second", version=version))
    assert own.kind == "warcinfo" and (one.kind, one.mime) == ("response", "text/html")
    assert (one.url, one.date) == ("http://a.example/0", "2008-04-30T20:48:26Z")
    assert (one.block, two.block) == (PAGE, b"second")


def test_an_arc_address_may_hold_spaces():
    line = b"http://a.example/?t=two words 1.2.3.4 20140216050221 text/html 3\nabc\n"
    assert [record.url for record in cut(line)] == ["http://a.example/?t=two words"]


@pytest.mark.parametrize(
    ("length", "fault"),
    [
        (len(PAGE) - 20, "wrong_length"),
        (len(PAGE) + 30, "wrong_length"),  # reaches into the next record
        (10**18, "too_long"),
        (-1, "bad_header"),
        ("many", "bad_header"),
    ],
)
def test_a_wrong_length_costs_its_own_record_only(length, fault):
    broken = warc(PAGE, number=2, length=length)
    content = warc(PAGE, number=1) + broken + warc(PAGE, number=3) + warc(PAGE, number=4)
    assert faults(content) == [("1", ""), ("2", fault), ("3", ""), ("4", "")]


def test_a_length_that_swallows_several_records_gives_them_back():
    content = warc(PAGE, number=1, length=3 * len(warc(PAGE)) + 20)
    content += b"".join(warc(PAGE, number=n) for n in range(2, 7))
    assert faults(content) == [("1", "wrong_length"), *((str(n), "") for n in range(2, 7))]


def test_arc_lengths_may_be_wrong_too():
    content = arc(PAGE, PAGE, PAGE)
    wrong = content.replace(b"html %d\n" % len(PAGE), b"html %d\n" % (len(PAGE) + 25), 1)
    assert [fault for _, fault in faults(wrong)] == ["", "wrong_length", "", ""]


def test_a_record_that_the_file_ends_in_is_truncated():
    content = warc(PAGE, number=1) + warc(PAGE, number=2)
    assert faults(content[:-20]) == [("1", ""), ("2", "truncated")]


def test_junk_between_records_is_one_fault():
    junk = b"junk\nmore junk\n\0\0\n"
    content = junk + warc(PAGE, number=1) + junk + warc(PAGE, number=2)
    assert faults(content)[0] == ("", "bad_header")
    assert faults(content)[-1] == ("2", "")


def test_no_more_is_held_than_a_block_may_have(monkeypatch):
    monkeypatch.setattr(archive_records, "MAX_BLOCK", 1000)
    content = warc(b"x\n" * 2000, number=1) + warc(PAGE, number=2)
    assert faults(content) == [("1", "too_long"), ("2", "")]


def test_lengths_that_are_always_wrong_do_not_keep_it_busy(monkeypatch):
    monkeypatch.setattr(archive_records, "MAX_REWOUND", 100_000)
    content = b"".join(warc(b"x", number=n, length=50_000) for n in range(500))
    with pytest.raises(Damaged, match="wrong again and again") as error:
        cut(content)
    assert error.value.reason == "given_up"


def test_a_whole_record_comes_through_although_the_next_one_breaks():
    class Breaking(io.RawIOBase):
        content = io.BytesIO(warc(PAGE, number=1))

        def readable(self):
            return True

        def readinto(self, buffer):
            part = self.content.read(min(len(buffer), 64))
            if not part:
                raise Damaged("a", "truncated", "")
            buffer[: len(part)] = part
            return len(part)

    stream = records(io.BufferedReader(Breaking(), 64))
    assert next(stream).block == PAGE
    with pytest.raises(Damaged):
        next(stream)


@pytest.mark.parametrize("seed", range(6))
def test_no_bytes_stop_it(seed):
    """Random damage: it ends, and every untouched record that a whole one follows is found."""
    rng = random.Random(seed)
    pieces = [warc(PAGE, number=number) for number in range(9)]
    hurt = set(rng.sample(range(9), 3))
    for number in hurt:
        piece = bytearray(pieces[number])
        for _ in range(rng.randint(1, 40)):
            piece[rng.randrange(len(piece))] = rng.randrange(256)
        pieces[number] = bytes(piece)
    good = {record.url[-1] for record in cut(b"".join(pieces)) if record.block == PAGE}
    safe = {n for n in range(9) if n not in hurt and n - 1 not in hurt and n + 1 not in hurt}
    assert {str(n) for n in safe} <= good
    cut(rng.randbytes(50_000))


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data with real archives here")
@pytest.mark.parametrize(
    "name",
    [
        "warc_warcio/example.warc",
        "warc_warcio/example.arc",
        "warc_warcio/example-iana.org-chunked.warc",
    ],
)
def test_real_files_are_cut_as_warcio_cuts_them(name):
    warcio = pytest.importorskip("warcio.archiveiterator")
    with (REAL / name).open("rb") as stream:
        theirs = [
            (record.rec_type, record.rec_headers.get_header("WARC-Target-URI"))
            for record in warcio.ArchiveIterator(stream, arc2warc=name.endswith(".arc"))
        ]
    ours = [(record.kind, record.url or None) for record in cut((REAL / name).read_bytes())]
    skip = 1 if name.endswith(".arc") else 0  # ARC's own record is named by each in its own way
    assert ours[skip:] == theirs[skip:]
