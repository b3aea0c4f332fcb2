"""Where documents come from: a Hub data set, files on disk, or the embedded `tinyworld`.

Each source streams; none holds more than a batch of rows, a page or one text file in memory.
Relative paths are taken from the folder where llmkit is started.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from llmkit.data.documents import Document
from llmkit.data.sources.kinds import READABLE, kind_of
from llmkit.data.sources.pages import require_web
from llmkit.data.sources.readers import WEB_FORMATS, BadRows, document_of, encodable, read_documents
from llmkit.data.sources.source import Part, Source
from llmkit.errors import InputError

SOURCES = {
    "hub": "llmkit.data.sources.table:HubSource",
    "path": "llmkit.data.sources.table:PathSource",
    "tinyworld": "llmkit.data.sources.table:TinyworldSource",
}
TINYWORLD_PART = 2000  # documents


@dataclass(frozen=True, kw_only=True)
class PathSource(Source):
    """`{path: FILE-OR-FOLDER-OR-GLOB}`: Parquet, JSON Lines, text, web archives, pages, by suffix.

    A folder stands for all readable files below it, a finished curate folder for its documents.
    Files are read in the order of their paths. A text file is one document (see the step `split`);
    `column` is the text's in Parquet and JSON, `encoding` that of text files. Web archives
    (`llmkit.data.sources.warc`) and HTML files (`llmkit.data.sources.pages`) give pages, for the
    step `extract`.
    """

    path: str
    column: str = "text"
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            "".encode(self.encoding)
        except LookupError:
            raise ValueError(f"encoding: Python knows no {self.encoding!r}") from None

    @property
    def label(self) -> str:
        return encodable(f"path:{Path(self.path).name}")

    def files(self) -> Iterator[Path]:
        yield from (file for file, _ in self._named_files())

    def _named_files(self) -> list[tuple[Path, str]]:
        """Files with the names that documents know them by, relative to what `path` names."""
        path = Path(self.path).expanduser()
        if path.is_dir():
            curated = path / "documents"
            top = curated if (path / "stats.json").is_file() and curated.is_dir() else path
            found = [file for file in top.rglob("*") if file.name.endswith(READABLE)]
            files = [file for file in found if not _hidden(file.relative_to(top))]
        elif glob.has_magic(self.path):
            files = [Path(name) for name in glob.glob(str(path), recursive=True)]
            top = _fixed_part(path)
        else:
            files, top = [path], path.parent
        files = sorted(file for file in files if not file.is_dir())
        if not files:
            readable = f"with one of {', '.join(READABLE)}" if path.is_dir() else "of that name"
            raise InputError(self.path, f"no files {readable}", "check the path")
        if missing := [file for file in files if not file.exists()]:
            raise InputError(str(missing[0]), "no such file or folder", "check the path")
        return [(file, encodable(file.relative_to(top).as_posix())) for file in files]

    def parts(self) -> Sequence[FilePart]:
        for file, _ in self._named_files():
            if kind_of(file) in WEB_FORMATS:
                require_web(f"reading {file}")
                break
        return [
            FilePart(file=str(file), name=name, column=self.column, encoding=self.encoding)
            for file, name in self._named_files()
        ]


@dataclass(frozen=True, kw_only=True)
class FilePart:
    """One file; `name` is what its documents know it by."""

    file: str
    name: str
    column: str
    encoding: str

    def documents(
        self, world: Mapping[str, Any], seed: int, bad_rows: BadRows
    ) -> Iterator[Document]:
        return read_documents(Path(self.file), self.name, self.column, self.encoding, bad_rows)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _fixed_part(pattern: Path) -> Path:
    """`data/*/x.txt` -> `data`: the folders before the first wildcard."""
    fixed = Path()
    for part in pattern.parts:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed


@dataclass(frozen=True, kw_only=True)
class HubSource(Source):
    """`{hub: HuggingFaceFW/fineweb, name: sample-10BT}`: a Hub data set, streamed by `datasets`.

    `name` is the configuration, `revision` a branch, tag or commit (give a commit so that the same
    recipe means the same data next year).
    """

    hub: str
    name: str | None = None
    revision: str | None = None
    split: str = "train"
    column: str = "text"

    @property
    def label(self) -> str:
        return f"hub:{self.hub}" + (f"/{self.name}" if self.name else "")

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        yield self.hub, self.revision

    def parts(self) -> Sequence[Part]:
        with _told(self.label):
            count = streamed(self.hub, self.name, self.revision, self.split).num_shards
        return [HubPart(source=self, index=index, count=count) for index in range(count)]


@dataclass(frozen=True, kw_only=True)
class HubPart:
    """One of the files of a Hub data set (what `datasets` calls a shard)."""

    source: HubSource
    index: int
    count: int

    def documents(
        self, world: Mapping[str, Any], seed: int, bad_rows: BadRows
    ) -> Iterator[Document]:
        """Yield the file's documents; `datasets` goes on by itself where a connection is cut."""
        source = self.source
        with _told(source.label):
            rows = streamed(source.hub, source.name, source.revision, source.split)
            names = rows.column_names  # None where the format tells it only with the first row
            if names is not None and source.column not in names:
                remedy = f"set `column:` to one of {', '.join(names)}"
                raise InputError(source.label, f"no column {source.column!r}", remedy)
            if self.count > 1:
                rows = rows.shard(num_shards=self.count, index=self.index)
            shard = f"{self.index}:" if self.count > 1 else ""
            for number, row in enumerate(rows, start=1):
                place = f"{source.hub}:{shard}{number}"
                try:
                    yield document_of(row, source.column, place)
                except ValueError as error:
                    bad_rows.add(f"{source.label}, row {shard}{number}", place, str(error))


@cache
def streamed(hub: str, name: str | None, revision: str | None, split: str) -> Any:
    """The data set as `datasets` streams it; asked of the Hub once a process."""
    import datasets

    return datasets.load_dataset(hub, name=name, revision=revision, split=split, streaming=True)


@contextmanager
def _told(label: str) -> Iterator[None]:
    """What goes wrong with the Hub or the data set, as an InputError."""
    import datasets
    from datasets.utils.file_utils import CONNECTION_ERRORS_TO_RETRY

    try:
        yield
    except (
        OSError,
        ValueError,
        datasets.exceptions.DatasetsError,
        *CONNECTION_ERRORS_TO_RETRY,
    ) as error:
        what = str(error).strip().splitlines()
        raise InputError(
            label,
            what[0] if what else type(error).__name__,
            "check the id, name, revision and split, and the connection to the Hub",
        ) from error


@dataclass(frozen=True, kw_only=True)
class TinyworldDocuments:
    """How many documents the small world's web has."""

    num_documents: int

    def __post_init__(self) -> None:
        if self.num_documents < 1:
            raise ValueError(f"num_documents: {self.num_documents} is not positive")


@dataclass(frozen=True, kw_only=True)
class TinyworldSource(Source):
    """`{tinyworld: {num_documents: 20000}}`: pages of the embedded world, junk among them, each
    with the truth whether it is worth keeping."""

    tinyworld: TinyworldDocuments

    @property
    def label(self) -> str:
        return "tinyworld"

    @property
    def size(self) -> int | None:
        if self.limit is not None and super().size is None:
            return None
        return min(self.tinyworld.num_documents, super().size or self.tinyworld.num_documents)

    def parts(self) -> Sequence[TinyworldPart]:
        end = self.tinyworld.num_documents
        return [
            TinyworldPart(start=start, stop=min(start + TINYWORLD_PART, end))
            for start in range(0, end, TINYWORLD_PART)
        ]


@dataclass(frozen=True, kw_only=True)
class TinyworldPart:
    """Documents `start` to `stop - 1` of the world's web."""

    start: int
    stop: int

    def documents(
        self, world: Mapping[str, Any], seed: int, bad_rows: BadRows
    ) -> Iterator[Document]:
        from llmkit.data.tinyworld.documents import documents
        from llmkit.data.tinyworld.world import World

        yield from documents(World(**world), self.stop, seed, self.start)
