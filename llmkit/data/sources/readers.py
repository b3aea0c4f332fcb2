"""Files to documents: Parquet, JSON Lines (plain, .gz, .zst), plain text, web archives and pages.

A row that holds no usable text goes to `BadRows`, which counts it and stops when there are too
many. A file that breaks is set aside from there on, and so are the pages of web formats.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, cast

from llmkit.data.documents import METADATA, Document
from llmkit.data.sources.guarded import BUFFER, Damaged, unpacked
from llmkit.data.sources.kinds import READABLE, kind_of, packing_by_name
from llmkit.data.sources.parquet_rows import parquet_rows
from llmkit.data.sources.quarantine import Quarantine
from llmkit.errors import InputError

WEB_FORMATS = {  # kind -> reader(file, name, quarantine)
    "warc": "llmkit.data.sources.warc:warc_documents",
    "html": "llmkit.data.sources.pages:page_documents",
}
MAX_ROW = 32 << 20  # bytes of a JSON line, characters of a text in a row
NAMED_BAD_ROWS = 20  # that stats.json names; the others are only counted
MAX_WHAT = 300  # characters of a fault's description


@dataclass
class BadRows:
    """Counts rows without a usable text, and stops at one more than are allowed.

    Attributes:
        named: the first of them as the record names them.
        where: the same ones as a person finds them.
        quarantine: what web sources set aside, which is not bounded.
    """

    allowed: int | None = 0  # None: any number
    count: int = 0
    named: list[str] = field(default_factory=list)
    where: list[tuple[str, str]] = field(default_factory=list)
    quarantine: Quarantine = field(default_factory=Quarantine)

    def add(self, where: str, name: str, what: str) -> None:
        """`where` is for the person (a path), `name` for the record (free of folders).

        Raises:
            InputError: when more rows are bad than `allowed`.
        """
        self.count += 1
        what = encodable(what[:MAX_WHAT])
        if len(self.named) < NAMED_BAD_ROWS:
            self.named.append(f"{name}: {what}")
            self.where.append((where, what))
        if self.allowed is not None and self.count > self.allowed:
            raise self._too_many(where, what)

    def _too_many(self, where: str, what: str) -> InputError:
        remedy = f"mend it, or let more bad rows pass with max_bad_rows (now {self.allowed})"
        return InputError(where, what, remedy)

    def drain(self) -> BadRows:
        """What was noted since the last call, in an object of its own; this one begins anew."""
        noted = BadRows(self.allowed, self.count, self.named, self.where, self.quarantine)
        self.count, self.named, self.where, self.quarantine = 0, [], [], Quarantine()
        return noted

    def take(self, other: BadRows) -> None:
        """Take over what `other` noted after this one.

        Raises:
            InputError: when more rows are bad than `allowed`, in the words of `add`.
        """
        left = None if self.allowed is None else self.allowed - self.count
        self.count += other.count
        room = NAMED_BAD_ROWS - len(self.named)
        self.named += other.named[:room]
        self.where += other.where[:room]
        self.quarantine.add(other.quarantine)
        if left is not None and other.count > left:
            raise self._too_many(*other.where[min(left, len(other.where) - 1)])


def read_documents(
    file: Path, name: str, column: str, encoding: str, bad_rows: BadRows
) -> Iterator[Document]:
    """Yield the documents of one file, whose kind its suffix tells (or else its first bytes).

    `name`, the file's name free of machine-bound folders, becomes `file_path` and begins the ids of
    rows that have none. Bad rows of a text file are the whole file (its encoding). A file that
    breaks gives its documents up to there; `bad_rows.quarantine` tells of it.

    Raises:
        InputError: the file is missing or of unknown kind, a Parquet file lacks `column`, or there
            are too many bad rows.
    """
    try:
        if not file.stat().st_size:
            return bad_rows.quarantine.set_aside(name, "empty", "no bytes")
        kind = kind_of(file)
        if kind in WEB_FORMATS:
            module, reader = WEB_FORMATS[kind].split(":")
            read = getattr(import_module(module), reader)
            yield from read(file, name, bad_rows.quarantine)
        else:
            rows = _rows(file, kind, column, encoding)
            yield from _documents(rows, file, name, column, bad_rows)
    except Damaged as error:
        bad_rows.quarantine.set_aside(name, error.reason, error.detail)
    except OSError as error:
        raise _unreadable(file, error) from error
    return None


def _rows(file: Path, kind: str | None, column: str, encoding: str) -> Rows:
    if kind == "parquet":
        return parquet_rows(file, column)
    if kind == "json":
        return json_rows(file)
    if kind == "text":
        return _text_rows(file, column, encoding)
    raise InputError(str(file), "unknown kind of file", f"known are {', '.join(READABLE)}")


def _documents(
    rows: Rows, file: Path, name: str, column: str, bad_rows: BadRows
) -> Iterator[Document]:
    for number, row in rows:
        place = f":{number}" if number else ""
        try:
            document = document_of(row, column, name + place)
        except ValueError as error:
            bad_rows.add(f"{file}{place}", name + place, str(error))
            continue
        document.metadata.setdefault("file_path", name)
        yield document


def document_of(row: Mapping[str, Any] | str, column: str, fallback_id: str) -> Document:
    """The document in a row: `column` is its text, FineWeb's other columns its metadata.

    Raises:
        ValueError: the row (or, given as a string, the reason why there is none) is bad.
    """
    if isinstance(row, str):
        raise ValueError(row)
    if column not in row:
        raise ValueError(f"no column {column!r} (there are: {', '.join(map(str, row)) or 'none'})")
    text = row[column]
    if not isinstance(text, str):
        raise ValueError(f"{column!r} holds {type(text).__name__}, not text")
    if len(text) > MAX_ROW and not fallback_id.endswith(".txt"):
        raise ValueError(f"{column!r} holds {len(text)} characters, more than {MAX_ROW}")
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON may escape half a surrogate pair, which no file can hold
        raise ValueError(f"{column!r} holds a lone surrogate, which is no character") from None
    metadata = {
        key: _cast(kind, key, row[key])
        for key, kind in METADATA.items()
        if row.get(key) is not None
    }
    given = row.get("id")
    return Document(text, fallback_id if given is None else _cast("string", "id", given), metadata)


def _cast(kind: str, key: str, value: Any) -> Any:
    if kind == "string":
        return encodable(str(value))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{key!r} holds {value!r}, not a number")
    if kind == "int64" and not (math.isfinite(value) and abs(value) < 1 << 63):
        raise ValueError(f"{key!r} holds {value!r}, not a number of 64 bits")
    return int(value) if kind == "int64" else float(value)


def encodable(text: str) -> str:
    """The text with "?" for lone surrogates, which JSON and file names may hold and no file can."""
    return text.encode(errors="replace").decode()


# Line or row from 1 (0: the whole file), and its values or its fault.
Rows = Iterator[tuple[int, Mapping[str, Any] | str]]


def json_rows(file: Path) -> Rows:
    """The rows of a JSON Lines file.

    Raises:
        InputError: the file is missing, or broken (then a `Damaged`).
    """
    for number, line in _lines(file):
        if not line.strip():
            continue
        if len(line) > MAX_ROW:
            yield number, f"a line of more than {MAX_ROW} bytes"
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, f"not JSON: {error}"
            continue
        if isinstance(row, dict):
            yield number, row
        elif isinstance(row, list):
            yield number, "a JSON list where an object was expected; write one object a line"
        else:
            yield number, f"holds {type(row).__name__} where a JSON object was expected"


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines; of a longer one than `MAX_ROW` bytes the beginning, one byte too long."""
    number = 0
    with _opened(file) as stream:
        while line := _read(file, stream.readline, MAX_ROW + 1):
            number += 1
            yield number, line
            while len(line) > MAX_ROW and not line.endswith(b"\n"):
                line = b"-" + _read(file, stream.readline, MAX_ROW)


def _text_rows(file: Path, column: str, encoding: str) -> Rows:
    """The whole file as one row, its byte order mark off and its line ends made `\\n`."""
    with _opened(file) as stream:
        content = _read(file, stream.read, -1)
    try:
        text = content.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        yield line, f"not {encoding}: {error.reason} (set the source's encoding)"
        return
    yield 0, {column: text.replace("\r\n", "\n").replace("\r", "\n")}


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    try:
        packed = file.open("rb")
    except OSError as error:
        raise _unreadable(file, error) from error
    with packed:
        raw = unpacked(packed, packing_by_name(file), str(file))
        yield cast(BinaryIO, io.BufferedReader(raw, BUFFER))


def _read(file: Path, read: Callable[[int], bytes], size: int) -> bytes:
    try:
        return read(size)
    except OSError as error:
        raise Damaged(str(file), "unreadable", str(error)) from error


def _unreadable(file: Path, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(str(file), "no such file", "check the path")
    return InputError(str(file), f"cannot be read: {error.strerror}", "check the permissions")
