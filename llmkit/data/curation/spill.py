"""What lies on disk between two phases of a curation, and the verdict on it.

    NNNNN.documents.parquet   the documents that block NNNNN passed on, with all their metadata
    NNNNN.keys.npy            the keys of their signatures, (bands, words, documents) uint64
    NNNNN.traces.npy          what to tell their similarity by, (documents, any) uint8
    firsts.npy                each document's first duplicate (itself where it is kept), all blocks
    starts.npy                the number of each block's first document, and of all
    kept.arrow                number, id and trace of the kept ones that have duplicates

The verdict is memory-mapped, so that workers share it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmkit.data.curation.clusters import cluster_sizes, first_members
from llmkit.data.curation.dedup import Dedup, Signatures
from llmkit.data.documents import ROW_GROUP, Document, write_rows

COLUMNS = {"text": "string", "id": "string", "metadata": "string", "source": "int32"}
SIGNED_AT_ONCE = 1000  # documents


class Duplicate(NamedTuple):
    """The kept document that another one is a duplicate of, and how alike the two are (0 to 1)."""

    number: int
    id: str
    similarity: float


@dataclass(frozen=True)
class Spill:
    """The folder between two phases."""

    folder: Path

    def file(self, index: int, what: str) -> Path:
        return self.folder / f"{index:05d}.{what}"

    def write(self, index: int, kept: Sequence[tuple[int, Document]], dedup: Dedup) -> list[Path]:
        """Put down what a block passes on, with its signatures; returns the files."""
        rows = [
            {
                "text": document.text,
                "id": document.id,
                "metadata": json.dumps(document.metadata, ensure_ascii=False),
                "source": source,
            }
            for source, document in kept
        ]
        names = ("documents.parquet", "keys.npy", "traces.npy")
        files = [self.file(index, name) for name in names]
        write_rows(files[0], rows, COLUMNS)
        signed = signatures([document.text for _, document in kept], dedup)
        save(files[1], signed.keys)
        save(files[2], signed.traces)
        return files

    def documents(self, index: int) -> Iterator[tuple[int, Document]]:
        """(source, document) as they were put down."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.file(index, "documents.parquet")) as file:
            for batch in file.iter_batches(ROW_GROUP):
                for row in batch.to_pylist():
                    metadata = json.loads(row["metadata"])
                    yield row["source"], Document(row["text"], row["id"], metadata)

    def text(self, number: int) -> str:
        """The text of one document, numbered through all blocks."""
        import pyarrow.parquet as pq

        index, row = self._place(number)
        with pq.ParquetFile(self.file(index, "documents.parquet")) as file:
            group, inside = divmod(row, ROW_GROUP)
            return str(file.read_row_group(group, columns=["text"])["text"][inside])

    def _place(self, number: int) -> tuple[int, int]:
        starts = np.load(self.folder / "starts.npy")
        index = int(np.searchsorted(starts, number, side="right")) - 1
        return index, number - int(starts[index])

    def judge(self, blocks: int) -> dict[str, Any]:
        """Cluster the signatures of all blocks and put down the verdict; returns its figures."""
        keys = [self.file(index, "keys.npy") for index in range(blocks)]
        firsts = first_members(keys)
        sizes = [np.load(file, mmap_mode="r").shape[2] for file in keys]
        save(self.folder / "starts.npy", np.cumsum([0, *sizes]))
        has_duplicates: NDArray[np.bool_] = np.zeros(len(firsts), bool)
        has_duplicates[firsts[firsts != np.arange(len(firsts), dtype=firsts.dtype)]] = True
        self._write_kept(sizes, has_duplicates)
        save(self.folder / "firsts.npy", firsts)
        return cluster_sizes(firsts)

    def _write_kept(self, sizes: Sequence[int], has_duplicates: NDArray[np.bool_]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        fields = [("number", pa.int64()), ("id", pa.string()), ("trace", pa.binary())]
        schema, start = pa.schema(fields), 0
        partial = self.folder / ".kept.arrow.partial"
        with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for index, size in enumerate(sizes):
                rows = np.flatnonzero(has_duplicates[start : start + size])
                ids = pq.read_table(self.file(index, "documents.parquet"), columns=["id"])["id"]
                traces = np.load(self.file(index, "traces.npy"), mmap_mode="r")[rows]
                columns = [
                    pa.array(rows + start, pa.int64()),
                    ids.take(pa.array(rows)).combine_chunks(),
                    pa.array([trace.tobytes() for trace in traces], pa.binary()),
                ]
                writer.write_batch(pa.record_batch(columns, schema=schema))
                start += size
        os.replace(partial, self.folder / "kept.arrow")

    def verdicts(self, index: int, dedup: Dedup) -> list[Duplicate | None]:
        """Of each document of a block: what it is a duplicate of, None where it is kept."""
        import pyarrow as pa

        starts = np.load(self.folder / "starts.npy")
        own = np.arange(starts[index], starts[index + 1])
        firsts = np.load(self.folder / "firsts.npy", mmap_mode="r")[own].astype(np.int64)
        rows = np.flatnonzero(firsts != own)
        found: list[Duplicate | None] = [None] * len(own)
        if not len(rows):
            return found
        with pa.memory_map(str(self.folder / "kept.arrow")) as source:
            table = pa.ipc.open_file(source).read_all()
            places = np.searchsorted(table["number"].to_numpy(), firsts[rows])
            kept = table.take(pa.array(places))
            traces = np.load(self.file(index, "traces.npy"), mmap_mode="r")[rows]
            others = np.frombuffer(b"".join(kept["trace"].to_pylist()), np.uint8)
            alike = dedup.similarities(traces, others.reshape(traces.shape))
            ids = kept["id"].to_pylist()
        for row, name, similarity in zip(rows.tolist(), ids, alike.tolist(), strict=True):
            found[row] = Duplicate(int(firsts[row]), name, similarity)
        return found


def signatures(texts: Sequence[str], dedup: Dedup) -> Signatures:
    """Of all texts, some at a time."""
    starts = range(0, max(1, len(texts)), SIGNED_AT_ONCE)
    pieces = [dedup.signatures(texts[start : start + SIGNED_AT_ONCE]) for start in starts]
    return Signatures(
        np.concatenate([piece.keys for piece in pieces], axis=2),
        np.concatenate([piece.traces for piece in pieces]),
    )


def save(path: Path, array: NDArray[Any]) -> None:
    """As `.npy`, under its name only when it is complete."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        np.save(file, array)
    os.replace(partial, path)
