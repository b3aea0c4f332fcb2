"""Web pages: bytes to text, and folders of HTML files.

The encoding is found in this order: a byte order mark; UTF-8 if the page is valid UTF-8 (FineWeb's
reader begins so too: https://github.com/huggingface/datatrove, `pipeline/readers/warc.py`); what
the server declared; what the page declares in a `meta` element; what resiliparse's detector finds
(https://resiliparse.chatnoir.eu/en/stable/man/parse/encoding.html). Labels mean what browsers take
them for (https://encoding.spec.whatwg.org/#names-and-labels: `latin-1` is windows-1252).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from llmkit.data.documents import Document
from llmkit.data.sources.guarded import BUFFER, packing_of, unpacked
from llmkit.data.sources.quarantine import Quarantine
from llmkit.errors import MissingExtraError

MAX_PAGE = 16 << 20  # bytes
STRANGE_SHARE = 0.05  # of the characters; more control or replacement characters are no text
STRANGE = re.compile("[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\ufffd]")
# Browsers take these labels for supersets that pages really use.
WIDER = {
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "ascii": "cp1252",
}
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def text_of(content: bytes, declared: str | None = None) -> str | None:
    """The text of a page without NULs, or None where the bytes are no text.

    It holds no lone surrogates. `declared` is the server's charset.
    """
    for mark, encoding in MARKS:
        if content.startswith(mark):
            return _textual(content[len(mark) :].decode(encoding, "replace"))
    if b"\0" not in content and b"\x1b" not in content:  # no UTF-16, no ISO-2022
        try:
            return content.decode()
        except UnicodeDecodeError:
            pass
    return _textual(_by_label(content, declared))


def _by_label(content: bytes, declared: str | None) -> str:
    """Decoded by the first label that fits without a fault; else by the first, faults replaced."""
    encodings = []
    for label in (declared, _meta(content), _detected(content), "utf-8"):
        encoding = _codec(label)
        if encoding and encoding not in encodings:
            encodings.append(encoding)
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return content.decode(encodings[0], "replace")


def _codec(label: str | None) -> str | None:
    """Python's codec for a label, as browsers understand it; None where they know none."""
    from resiliparse.parse.encoding import map_encoding_to_html5

    if not label:
        return None
    plain = label.encode("ascii", "ignore").decode().strip(" \"'\t")
    found = map_encoding_to_html5(plain, fallback_utf8=False)
    return WIDER.get(found, found) if found else None


META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.I)


def _meta(content: bytes) -> str | None:
    """What a page's first 4 KiB declare. A page cannot declare UTF-16 in ASCII: UTF-8 is meant."""
    match = META.search(content, 0, 4096)
    label = match[1].decode("ascii") if match else None
    return "utf-8" if label and label.lower().startswith("utf-16") else label


def _detected(content: bytes) -> str | None:
    from resiliparse.parse.encoding import detect_encoding

    found: str | None = detect_encoding(content)
    return found


def _textual(text: str) -> str | None:
    if len(STRANGE.findall(text)) > STRANGE_SHARE * len(text):
        return None
    return text.replace("\0", "")


def require_web(what: str) -> None:
    """Raises MissingExtraError where a library of the extra `web` is missing."""
    for package in ("fastwarc", "resiliparse"):
        try:
            import_module(package)
        except ImportError as error:
            raise MissingExtraError(package, "web", what) from error


def page_documents(file: Path, name: str, quarantine: Quarantine) -> Iterator[Document]:
    """Yield the one page of an HTML file, or set it aside.

    Raises:
        Damaged: the file is packed, and broke.
    """
    require_web(f"reading pages ({file})")
    with file.open("rb") as packed:
        stream = unpacked(packed, packing_of(file), str(file))
        content = b""
        while len(content) <= MAX_PAGE and (more := stream.read(BUFFER)):
            content += more
    if len(content) > MAX_PAGE:
        return quarantine.set_aside(name, "too_long", f"more than {MAX_PAGE} bytes")
    text = text_of(content)
    if text is None:
        return quarantine.set_aside(name, "not_text", "control or undecodable characters")
    yield Document(text, name, {"file_path": name, "media_type": "text/html"})
    return None
