"""WARC and ARC bytes written by hand, for the tests of their readers."""

from __future__ import annotations


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", *(headers or ("Content-Type: text/html; charset=utf-8",))]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def warc(
    block: bytes, kind: str = "response", number: int = 0, length: int | None = None, **fields: str
) -> bytes:
    """One record; `length` is a false one, `fields` are more of its headers (`_` for `-`)."""
    known = {
        "WARC-Type": kind,
        "WARC-Record-ID": f"<urn:uuid:{number}>",
        "WARC-Date": "2024-05-01T00:00:00Z",
        "WARC-Target-URI": f"https://a.example/{number}",
        "Content-Type": f"application/http; msgtype={kind}",
        "Content-Length": str(len(block) if length is None else length),
    } | {key.replace("_", "-"): value for key, value in fields.items()}
    lines = ["WARC/1.0", *(f"{key}: {value}" for key, value in known.items() if value)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + block + b"\r\n\r\n"


def arc(*blocks: bytes, version: int = 1) -> bytes:
    names = b"1 0 Here\nURL IP-address Archive-date Content-type Archive-length\n"
    more = b"200 checksum - 0 a.arc " if version == 2 else b""
    written = b"filedesc://a.arc 0.0.0.0 20080430204825 text/plain %d\n%s\n" % (len(names), names)
    for number, block in enumerate(blocks):
        line = b"http://a.example/%d 10.0.0.1 20080430204826 text/html " % number
        written += line + more + b"%d\n" % len(block) + block + b"\n"
    return written
