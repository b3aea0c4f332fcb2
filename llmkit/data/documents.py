"""Documents: what curation passes from hand to hand, and the Parquet files it leaves them in.

The columns and their order are FineWeb's own, so that a curated folder and a FineWeb dump are
interchangeable: https://huggingface.co/datasets/HuggingFaceFW/fineweb (section "Data Fields").
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmkit.errors import InputError

# Column -> Arrow type, after `text` and `id`; a document holds those it knows in its metadata.
METADATA = {
    "dump": "string",
    "url": "string",
    "date": "string",
    "file_path": "string",
    "language": "string",
    "language_score": "float64",
    "token_count": "int64",
}
DOCUMENT_COLUMNS = {"text": "string", "id": "string", **METADATA}
ROW_GROUP = 1000  # rows; what a reader holds in memory at a time


@dataclass(slots=True)
class Document:
    """One text with its identity and whatever its source knows about it."""

    text: str
    id: str
    metadata: dict[str, Any] = field(default_factory=dict)


def iter_documents(folder: Path | str) -> Iterator[Document]:
    """Yield the documents that a curate stage left in `folder`, in order, a row group at a time.

    Raises:
        InputError: the folder holds no `documents/*.parquet`, or one of them cannot be read.
    """
    for row in _rows(Path(folder), list(DOCUMENT_COLUMNS)):
        text, name = row.pop("text"), row.pop("id")
        known = {key: value for key, value in row.items() if value is not None}
        yield Document(text=text, id=name, metadata=known)


def iter_texts(folder: Path | str) -> Iterator[str]:
    """Yield the texts that a curate stage left in `folder`; only that column is read."""
    for row in _rows(Path(folder), ["text"]):
        yield row["text"]


def size_of(folder: Path | str) -> tuple[int, int]:
    """Documents, and about how many bytes of text they have, by the files' footers alone.

    Texts that repeat within a row group count once.
    """
    import pyarrow.parquet as pq

    documents = total = 0
    for file in _files(Path(folder)):
        footer = pq.read_metadata(file)
        column = footer.schema.names.index("text")
        groups = range(footer.num_row_groups)
        total += sum(footer.row_group(i).column(column).total_uncompressed_size for i in groups)
        documents += footer.num_rows
    return documents, total


def sample_documents(folder: Path | str, max_bytes: int, groups: int = 8) -> Iterator[Document]:
    """Documents of at most about `max_bytes` of text, from row groups at even steps over the files.

    Of each group its first documents are taken, one at least.
    """
    import pyarrow.parquet as pq

    files = [pq.ParquetFile(file) for file in _files(Path(folder))]
    places = [(file, i) for file in files for i in range(file.num_row_groups)]
    chosen = places[:: max(1, -(-len(places) // groups))]
    for file, number in chosen:
        room = max_bytes // len(chosen)
        for row in file.read_row_group(number, columns=list(DOCUMENT_COLUMNS)).to_pylist():
            text, name = row.pop("text"), row.pop("id")
            known = {key: value for key, value in row.items() if value is not None}
            yield Document(text=text, id=name, metadata=known)
            room -= len(text.encode())
            if room <= 0:
                break


def _files(folder: Path) -> list[Path]:
    files = sorted((folder / "documents").glob("*.parquet"))
    if not files:
        raise InputError(
            str(folder), "no documents/*.parquet here", "name the folder of a finished curate stage"
        )
    return files


def _rows(folder: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in _files(folder):
        try:
            for batch in pq.ParquetFile(file).iter_batches(ROW_GROUP, columns=columns):
                yield from batch.to_pylist()
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(str(file), f"cannot be read: {error}", "run curate again") from error


def write_documents(path: Path, documents: Iterable[Document]) -> None:
    """Write the documents as one Parquet file; equal documents give equal bytes."""
    rows = [{"text": item.text, "id": item.id, **item.metadata} for item in documents]
    write_rows(path, rows, DOCUMENT_COLUMNS)


def write_rows(path: Path, rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> None:
    """Write `rows` under `columns` (name -> Arrow type): absent ones are null, others left out.

    The file appears under its name only when it is complete.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = [
        pa.array([row.get(name) for row in rows], type=kind) for name, kind in columns.items()
    ]
    table = pa.Table.from_arrays(arrays, names=list(columns))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(
        table, partial, row_group_size=ROW_GROUP, compression="zstd", compression_level=3
    )
    os.replace(partial, path)
