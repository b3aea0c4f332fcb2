"""WARC and ARC streams cut into records, whatever is wrong with their lengths.

WARC 1.0 and 1.1 (https://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/,
section 4): header lines, a blank line, a block of Content-Length bytes, two line ends. ARC 1 and 2
(https://archive.org/web/researcher/ArcFileFormat.php): one line of fields, the block, a line end.

A record counts only if the next one begins (or the file ends) where its length says. Where it does
not, the record is marked `wrong_length`, and reading goes on at the next line that begins a record,
which may lie inside the block that was too long.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from llmkit.data.sources.guarded import Damaged

MAX_BLOCK = 32 << 20  # bytes; Common Crawl cuts its pages at 1 and since 2025 at 5 MiB
MAX_REWOUND = 16 * MAX_BLOCK
MAX_LINE = 64 << 10
MAX_HEADER_LINES = 200
WARC_LINE = re.compile(rb"WARC/\d+\.\d+[ \t]*\r?\n?$")
ARC_LINE = re.compile(rb"(\S.*?) (\S+) (\d{14}) (\S+)(?: .*)? (\d+)[ \t]*\r?\n?$")


@dataclass(slots=True)
class Record:
    """One record. `fault` says why its block is not to be used; the reason is then a name.

    Attributes:
        kind: WARC's record type; an ARC record is a `response`, the file's own a `warcinfo`.
        mime: the type of the payload where the archive tells it, in lower case, or "".
        content_type: the type of the block (`application/http` with headers in front), or "".
    """

    kind: str
    id: str = ""
    url: str = ""
    date: str = ""
    mime: str = ""
    content_type: str = ""
    length: int = 0
    block: bytes = b""
    fault: str = ""


class Rewindable:
    """A stream that takes bytes back."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.front = stream, io.BytesIO()
        self.rewound = 0

    def push(self, content: bytes) -> None:
        """Raises `Damaged` when so much was taken back that the file wants to keep us busy."""
        self.rewound += len(content)
        if self.rewound > MAX_REWOUND:
            raise Damaged("archive", "given_up", "its records' lengths are wrong again and again")
        self.front = io.BytesIO(content + self.front.read())

    def read(self, size: int) -> bytes:
        content = self.front.read(size)
        return content + self.stream.read(size - len(content)) if len(content) < size else content

    def readline(self) -> bytes:
        """Up to a line end or `MAX_LINE` bytes."""
        line = self.front.readline(MAX_LINE)
        if line.endswith(b"\n") or len(line) == MAX_LINE:
            return line
        return line + self.stream.readline(MAX_LINE - len(line))


def records(stream: BinaryIO) -> Iterator[Record]:
    """Yield all records of a stream, of WARC or of ARC as its first line tells.

    A stretch that is no record gives one of fault `bad_header`.

    Raises:
        Damaged: the stream broke. Every record that is whole was yielded before.
    """
    lines = Rewindable(stream)
    line = _next_line(lines)
    is_arc = line.startswith(b"filedesc:") or ARC_LINE.match(line) is not None
    begins = ARC_LINE if is_arc else WARC_LINE
    while line:
        if not begins.match(line):
            yield Record("unknown", fault="bad_header")
            line = _seek(lines, begins)
            continue
        record = _arc_head(line) if is_arc else _warc_head(lines)
        if record.fault or record.length > MAX_BLOCK:
            record.fault = record.fault or "too_long"
            yield record
            line = _seek(lines, begins)
            continue
        record.block = lines.read(record.length)
        short = len(record.block) < record.length
        try:
            line = _next_line(lines)
        except Damaged:  # the next one's; this one is whole
            yield record
            raise
        if short or (line and not begins.match(line)):
            lines.push(record.block + line)
            line = _seek(lines, begins)
            record.fault = "wrong_length" if line or not short else "truncated"
            record.block = b""
        yield record


def _next_line(lines: Rewindable) -> bytes:
    """The next line that is not blank; empty at the end."""
    while (line := lines.readline()) and not line.strip():
        pass
    return line


def _seek(lines: Rewindable, begins: re.Pattern[bytes]) -> bytes:
    """The next line that begins a record; empty at the end."""
    while (line := lines.readline()) and not begins.match(line):
        pass
    return line


def _warc_head(lines: Rewindable) -> Record:
    fields: dict[bytes, bytes] = {}
    name = b""
    for _ in range(MAX_HEADER_LINES):
        line = lines.readline()
        if not line.strip():
            break
        if line[:1] in b" \t" and name:  # a field's value goes on
            fields[name] += b" " + line.strip()
            continue
        name, colon, value = line.partition(b":")
        name = name.strip().lower()
        if colon:
            fields.setdefault(name, value.strip())
    length = fields.get(b"content-length", b"")
    record = Record(
        kind=_text(fields.get(b"warc-type", b"unknown")).lower(),
        id=_text(fields.get(b"warc-record-id", b"")),
        url=_text(fields.get(b"warc-target-uri", b"")).removeprefix("<").removesuffix(">"),
        date=_text(fields.get(b"warc-date", b"")),
        mime=media_type(_text(fields.get(b"warc-identified-payload-type", b""))),
        content_type=media_type(_text(fields.get(b"content-type", b""))),
    )
    if length.isdigit() and len(length) < 20:
        record.length = int(length)
    else:
        record.fault = "bad_header"
    return record


def _arc_head(line: bytes) -> Record:
    match = ARC_LINE.match(line)
    assert match is not None
    url, _ip, stamp, mime, length = (_text(field) for field in match.groups())
    day, time = (
        f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}",
        f"{stamp[8:10]}:{stamp[10:12]}:{stamp[12:]}",
    )
    return Record(
        kind="warcinfo" if url.startswith("filedesc:") else "response",
        url=url,
        date=f"{day}T{time}Z",
        mime=media_type(mime),
        length=int(length) if len(length) < 20 else MAX_BLOCK + 1,
    )


def media_type(value: str) -> str:
    """`Text/HTML; charset=x` -> `text/html`."""
    return value.partition(";")[0].strip().lower()


def _text(field: bytes) -> str:
    return field.decode(errors="replace")
