"""What a server answered, as archives keep it: status, type, charset, and the body unpacked.

Header lines are those of RFC 9112, section 5, with whatever line ends there are. fastwarc unpacks
bodies (chunks, gzip, deflate, brotli, zstd:
https://resiliparse.chatnoir.eu/en/stable/man/fastwarc.html).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

END = re.compile(rb"\r?\n\r?\n")
STATUS = re.compile(r"HTTP/\S+\s+([1-9][0-9]{2})(?!\S)")
CHARSET = re.compile(r"""charset\s*=\s*["']?([^\s;"',]+)""", re.I)
PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")  # how gzip and zstd data begin
HEAD = (
    b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http; msgtype=response\r\n"
    b"Content-Length: %d\r\n\r\n"
)
MAX_HEADERS = 64 << 10  # bytes


class BrokenBody(ValueError):
    """A body that cannot be unpacked."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. `kind` is its media type in lower case, or "".

    `status` is None where the first line has none; `body` is as it was sent.
    """

    status: int | None
    kind: str
    charset: str | None
    is_coded: bool
    body: bytes


def answer_of(block: bytes) -> Answer:
    """The answer in a block that begins with `HTTP/`."""
    end = END.search(block, 0, MAX_HEADERS)
    head, body = (block[: end.start()], block[end.end() :]) if end else (block, b"")
    first, *lines = head.decode("latin-1").split("\n")
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    status = STATUS.match(first)
    kind = fields.get("content-type", "")
    charset = CHARSET.search(kind)
    codings = (fields.get("transfer-encoding", ""), fields.get("content-encoding", ""))
    return Answer(
        status=int(status[1]) if status else None,
        kind=kind.partition(";")[0].strip().lower(),
        charset=charset[1] if charset else None,
        is_coded=any(coding.lower() not in ("", "identity") for coding in codings),
        body=body,
    )


def unpacked_body(block: bytes, answer: Answer, most: int) -> bytes:
    """The body, unpacked as its headers say; at most `most` + 1 bytes, whatever it would unpack to.

    Archives often hold a body already unpacked under headers that still call it chunked or packed;
    where unpacking fails, the body counts as it is if it is no packed data. Of one that ends early,
    the beginning counts.

    Raises:
        BrokenBody: it cannot be unpacked.
    """
    if not answer.is_coded:
        return answer.body
    from fastwarc.warc import WarcRecord

    whole = HEAD % len(block) + block
    for decode in ("all", "transfer"):
        record = WarcRecord.from_bytes(whole)
        content = b""
        try:
            record.parse_http(auto_decode=decode, quirks_mode=True, strict_mode=False)
            while len(content) <= most and (more := record.reader.read(most + 1 - len(content))):
                content += more
        except OSError:
            continue
        if content and (decode == "all" or not content.startswith(PACKED)):
            return content
    if answer.body.startswith(PACKED):
        raise BrokenBody("its packed body is broken")
    return answer.body
