"""Rows of Parquet files, a bounded batch at a time, whatever the file's own row groups are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmkit.data.documents import METADATA
from llmkit.data.sources.guarded import BURST, RATIO, Damaged
from llmkit.errors import InputError

BATCH_ROWS = 1000
BATCH_BYTES = 32 << 20  # unpacked, of the columns that are read


def parquet_rows(file: Path, column: str) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Yield (row from 1, its values or its fault): `column`, `id` and FineWeb's other columns.

    Raises:
        InputError: the file is missing, or lacks `column`.
        Damaged: it broke, or unpacks to far more than it holds.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            names = parquet.schema_arrow.names
            if column not in names:
                remedy = f"set `column:` to one of {', '.join(names)}"
                raise InputError(str(file), f"no column {column!r}", remedy)
            wanted = [name for name in dict.fromkeys((column, "id", *METADATA)) if name in names]
            number = 0
            for batch in _batches(file, parquet, wanted):
                for row in _values(batch):
                    number += 1
                    yield number, row
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        what = next(iter(str(error).splitlines()), type(error).__name__)
        raise Damaged(str(file), "corrupt", what) from error


def _batches(file: Path, parquet: Any, columns: list[str]) -> Iterator[Any]:
    """Batches of rows, fewer at a time where the rows are long."""
    for group in range(parquet.num_row_groups):
        about = parquet.metadata.row_group(group)
        size, rows = about.total_byte_size, about.num_rows
        if size > BURST + RATIO * file.stat().st_size:
            what = f"a decompression bomb (a row group of {size} bytes)"
            raise Damaged(str(file), "bomb", what)
        at_once = min(BATCH_ROWS, max(1, BATCH_BYTES * rows // max(size, 1)))
        yield from parquet.iter_batches(at_once, row_groups=[group], columns=columns)


def _values(batch: Any) -> Iterator[Mapping[str, Any] | str]:
    """The rows of a batch; where one is no valid UTF-8, each by itself."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for index in range(batch.num_rows):
            try:
                yield from batch.slice(index, 1).to_pylist()
            except UnicodeDecodeError as error:
                yield f"not UTF-8: {error.reason}"
