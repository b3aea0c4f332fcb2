"""Files to documents: Parquet, JSON Lines (plain, .gz, .zst) and plain text, streamed.

A row that holds no usable text goes to `BadRows`, which counts it and stops when there are too
many. A file that cannot be read at all is an `InputError`.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from llmkit.data.documents import METADATA, Document
from llmkit.data.quarantine import Quarantine
from llmkit.errors import InputError

JSON_LINES = (".jsonl", ".json", ".ndjson")
READABLE = (
    *(suffix + packed for suffix in (*JSON_LINES, ".txt") for packed in ("", ".gz", ".zst")),
    ".parquet",
)
NAMED_BAD_ROWS = 20  # that stats.json names; the others are only counted


@dataclass
class BadRows:
    """Counts rows without a usable text, and stops at one more than are allowed.

    Attributes:
        named: the first of them as the record names them.
        where: the same ones as a person finds them.
        quarantine: what web sources set aside, which is not bounded.
    """

    allowed: int = 0
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
        if len(self.named) < NAMED_BAD_ROWS:
            self.named.append(f"{name}: {what}")
            self.where.append((where, what))
        if self.count > self.allowed:
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
        left = self.allowed - self.count
        self.count += other.count
        room = NAMED_BAD_ROWS - len(self.named)
        self.named += other.named[:room]
        self.where += other.where[:room]
        self.quarantine.add(other.quarantine)
        if other.count > left:
            raise self._too_many(*other.where[min(left, len(other.where) - 1)])


def read_documents(
    file: Path, name: str, column: str, encoding: str, bad_rows: BadRows
) -> Iterator[Document]:
    """Yield the documents of one file, whose kind its suffix tells.

    `name`, the file's name free of machine-bound folders, becomes `file_path` and begins the ids of
    rows that have none. Bad rows of a text file are the whole file (its encoding).

    Raises:
        InputError: the file is missing, broken or of unknown kind, a Parquet file lacks `column`,
            or there are too many bad rows.
    """
    if file.name.endswith(".parquet"):
        rows = _parquet_rows(file, column)
    elif file.name.removesuffix(".gz").removesuffix(".zst").endswith(JSON_LINES):
        rows = json_rows(file)
    elif file.name.removesuffix(".gz").removesuffix(".zst").endswith(".txt"):
        rows = _text_rows(file, column, encoding)
    else:
        raise InputError(str(file), "unknown kind of file", f"known are {', '.join(READABLE)}")
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
        text = str(value)
        return text.encode(errors="replace").decode()  # a lone surrogate in a URL becomes "?"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{key!r} holds {value!r}, not a number")
    return int(value) if kind == "int64" else float(value)


Rows = Iterator[
    tuple[int, Mapping[str, Any] | str]
]  # (line or row from 1, its values or its fault)


def json_rows(file: Path) -> Rows:
    for number, line in _lines(file):
        if not line.strip():
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
    try:
        with _open(file) as stream:
            yield from enumerate(stream, start=1)
    except (OSError, EOFError, zlib.error) as error:
        raise _broken(file, error) from error


def _text_rows(file: Path, column: str, encoding: str) -> Rows:
    """The whole file as one row, its byte order mark off and its line ends made `\\n`."""
    try:
        with _open(file) as stream:
            content = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise _broken(file, error) from error
    try:
        text = content.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        yield line, f"not {encoding}: {error.reason} (set the source's encoding)"
        return
    yield 0, {column: text.replace("\r\n", "\n").replace("\r", "\n")}


def _open(file: Path) -> BinaryIO:
    if file.suffix == ".gz":
        return cast(BinaryIO, gzip.open(file, "rb"))
    if file.suffix == ".zst":
        import io

        import pyarrow as pa

        stream = pa.CompressedInputStream(pa.OSFile(str(file)), "zstd")
        return cast(BinaryIO, io.BufferedReader(stream, 1 << 20))
    return file.open("rb")


def _parquet_rows(file: Path, column: str) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow
        if column not in schema.names:
            there = ", ".join(schema.names)
            raise InputError(str(file), f"no column {column!r}", f"set `column:` to one of {there}")
        wanted = [name for name in (column, "id", *METADATA) if name in schema.names]
        number = 0
        for batch in parquet.iter_batches(1000, columns=list(dict.fromkeys(wanted))):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (OSError, pa.ArrowException) as error:
        raise _broken(file, error) from error


def _broken(file: Path, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(str(file), "no such file", "check the path")
    what = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(str(file), f"cannot be read: {what}", "download or write it again")
