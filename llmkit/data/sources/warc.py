"""WARC, WET and ARC files to pages, as FineWeb reads Common Crawl.

Taken are `response` records of type text/html or application/xhtml+xml and `conversion` records
(WET) of type text/plain too, as by datatrove's reader (https://github.com/huggingface/datatrove,
`pipeline/readers/warc.py`); also by the server's own type where the archive gives none, and not
where the server answered with a redirect or an error, which Common Crawl keeps elsewhere. fastwarc
parses and unpacks what the server said
(https://resiliparse.chatnoir.eu/en/stable/man/fastwarc.html).

Broken records are set aside and reading goes on at the next one; so it does at the next gzip member
where the archive itself is broken.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from llmkit.data.documents import Document
from llmkit.data.sources.archive_records import Record, records
from llmkit.data.sources.guarded import BUFFER, Damaged, Gunzip, packing_of, unpacked
from llmkit.data.sources.http_answer import BrokenBody, answer_of, unpacked_body
from llmkit.data.sources.pages import MAX_PAGE, require_web, text_of
from llmkit.data.sources.quarantine import Quarantine

HTML = ("text/html", "application/xhtml+xml")
WANTED = {"response": HTML, "conversion": ("text/plain", *HTML)}
BEGINS = re.compile(rb"WARC/\d|[a-z]{3,8}:/?/?\S")
LOOKS_LIKE_HTML = re.compile(rb"<(?:!doctype\s+html|html|head|body|title|meta|div|table|p)\b", re.I)
DUMP = re.compile(r"CC-MAIN-\d{4}-\d{2}(?:-\d{2})?(?![\d-]*\.)")
PART_OF = re.compile(rb"^isPartOf:[ \t]*(\S+)", re.I | re.M)
MAX_BREAKS = 100  # places where one archive may break before the rest of it is given up


@dataclass
class Refused(Exception):
    """Why a record gives no document. `fault` tells the broken ones from the unwanted."""

    reason: str
    detail: str = ""
    fault: bool = True


def warc_documents(file: Path, name: str, quarantine: Quarantine) -> Iterator[Document]:
    """Yield the pages of an archive in their order, as far as they can be read.

    `text` is the decoded HTML (of WET the text), `metadata` holds `url`, `date`, `file_path`, where
    known `dump`, and `media_type`: `text/html`, or `text/plain` of WET.
    """
    require_web(f"reading web archives ({file})")
    with file.open("rb") as packed:
        raw = unpacked(packed, packing_of(file), str(file), dictionary=True)
        dump = DUMP.search(file.as_posix())
        archive = Archive(name, quarantine, dump[0] if dump else None)
        for _ in range(MAX_BREAKS):
            reader = io.BufferedReader(raw, BUFFER)
            try:
                yield from archive.documents(reader)
                return
            except Damaged as error:
                quarantine.set_aside(name, error.reason, error.detail)
            reader.detach()  # or its end would close `raw`
            if not isinstance(raw, Gunzip) or not raw.resync(BEGINS.match):
                return
        quarantine.set_aside(name, "given_up", f"broken in {MAX_BREAKS} places")


@dataclass
class Archive:
    """What is known of the archive that its records do not say themselves."""

    name: str
    quarantine: Quarantine
    dump: str | None
    number: int = 0  # of the record

    def documents(self, stream: BinaryIO) -> Iterator[Document]:
        for record in records(stream):
            self.number += 1
            where = f"{self.name}:{record.id or self.number}"
            if record.kind == "warcinfo" and (part_of := PART_OF.search(record.block)):
                self.dump = part_of[1].decode(errors="replace")
            try:
                yield self._document(record, where)
            except Refused as refused:
                if refused.fault:
                    self.quarantine.set_aside(where, refused.reason, refused.detail)
                else:
                    self.quarantine.pass_over(refused.reason)

    def _document(self, record: Record, where: str) -> Document:
        if record.fault:
            raise Refused(record.fault, f"{record.kind} record of {record.url or '(no URL)'}")
        if record.kind not in WANTED:
            raise Refused(record.kind, fault=False)
        content, kind, charset = payload_of(record)
        text = text_of(content, charset)
        if text is None:
            raise Refused("not_text", record.url)
        known = {
            "dump": self.dump,
            "url": record.url or None,
            "date": record.date or None,
            "file_path": self.name,
            "media_type": "text/plain" if kind == "text/plain" else "text/html",
        }
        metadata = {key: value for key, value in known.items() if value is not None}
        return Document(text, record.id or where, metadata)


def payload_of(record: Record) -> tuple[bytes, str, str | None]:
    """What the server sent, unpacked, with its type and declared charset.

    Raises:
        Refused: it is of no wanted type, no answer to the question, too long, or broken.
    """
    wanted = WANTED[record.kind]
    if record.mime and record.mime not in wanted and record.content_type:  # identified, not claimed
        raise Refused("not_html", fault=False)
    if not record.block.startswith(b"HTTP/"):
        kind = record.mime or ("" if "http" in record.content_type else record.content_type)
        return _checked(record, record.block, kind, None)
    answer = answer_of(record.block)
    if answer.status is not None and answer.status >= 300:
        raise Refused("http_status", fault=False)
    kind = record.mime or answer.kind
    if kind and kind not in wanted:
        raise Refused("not_html", fault=False)
    try:
        content = unpacked_body(record.block, answer, MAX_PAGE)
    except BrokenBody as error:
        raise Refused("bad_http", f"{record.url}: {error}") from error
    return _checked(record, content, kind, answer.charset)


def _checked(
    record: Record, content: bytes, kind: str, charset: str | None
) -> tuple[bytes, str, str | None]:
    if not kind and LOOKS_LIKE_HTML.search(content, 0, 2048):
        kind = "text/html"
    if kind not in WANTED[record.kind]:
        raise Refused("not_html", fault=False)
    if len(content) > MAX_PAGE:
        raise Refused("too_long", f"{record.url}: more than {MAX_PAGE} bytes")
    return content, kind, charset
