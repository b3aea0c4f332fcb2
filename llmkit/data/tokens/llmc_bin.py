"""llm.c's token files: read into shards, and written from them.

A file is a header of 256 int32 (magic, version, number of tokens, zeros) and the tokens: magic
20240520, version 1, uint16; or 20240801, version 7, uint32. Files of 10^8 tokens follow on one
another, documents run across their ends, and an end-of-text token stands before each document
(https://github.com/karpathy/llm.c/blob/master/dev/data/data_common.py and fineweb.py there). In
llmkit's shards it stands behind each, so the streams differ by their first and last token alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.data.tokens.shard_files import memmapped, read_index, shards_of
from llmkit.errors import InputError

HEADER = 256  # int32
FORMS = {(20240520, 1): np.dtype("<u2"), (20240801, 7): np.dtype("<u4")}
FILE_TOKENS = 100_000_000
BLOCK = 2**24  # tokens in memory at once
NAMES = {"train": "train_{:06d}.bin", "validation": "val_{:06d}.bin"}
REMEDY = "give files that llm.c's data scripts wrote"


def read_tokens(file: Path) -> NDArray[Any]:
    """The tokens of one file, memory-mapped. Raises InputError for one that is not llm.c's."""
    size = file.stat().st_size
    if size < 4 * HEADER:
        raise InputError(str(file), f"has {size} bytes, fewer than a header", REMEDY)
    magic, version, count = np.fromfile(file, dtype="<i4", count=3).tolist()
    dtype = FORMS.get((magic, version))
    if dtype is None:
        raise InputError(str(file), f"has magic {magic} and version {version}", REMEDY)
    due = 4 * HEADER + count * dtype.itemsize
    if size != due:
        raise InputError(str(file), f"has {size} bytes where {due} are due", "fetch it again")
    return np.memmap(file, dtype=dtype, mode="r", offset=4 * HEADER, shape=(count,))


def iter_documents(
    files: Sequence[Path], eos: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Whole documents of the files in turn: their ids without end-of-text, and their lengths."""
    rest: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    begun = False  # whether `rest` stands behind an end-of-text, and so is a document even if empty
    for tokens in map(read_tokens, files):
        for start in range(0, len(tokens), BLOCK):
            block = np.concatenate([rest, tokens[start : start + BLOCK].astype(np.int64)])
            marks = np.flatnonzero(block == eos)
            if not len(marks):
                rest = block
                continue
            first = 0 if begun or marks[0] > 0 else 1
            lengths = np.diff(marks, prepend=-1)[first:] - 1
            whole = block[: marks[-1]]
            if len(lengths):
                yield whole[whole != eos], lengths
            rest, begun = block[marks[-1] + 1 :], True
    if len(rest):
        yield rest, np.array([len(rest)], dtype=np.int64)


def files_of(pattern: str) -> dict[str, list[Path]]:
    """Split -> files of a folder or a glob, by name; those with `val` in it validate.

    Raises:
        InputError: there is none.
    """
    place = Path(pattern).expanduser()
    found = sorted(place.glob("*.bin")) if place.is_dir() else sorted(_glob(pattern))
    if not found:
        raise InputError(
            pattern, "no llm.c file is there", "give a folder of .bin files, or a glob"
        )
    splits: dict[str, list[Path]] = {"train": [], "validation": []}
    for file in found:
        splits["validation" if "val" in file.name else "train"].append(file)
    return splits


def _glob(pattern: str) -> Iterable[Path]:
    from glob import glob

    return map(Path, glob(str(Path(pattern).expanduser())))


def export(folder: Path, out: Path, file_tokens: int = FILE_TOKENS) -> list[Path]:
    """Write the shards in `folder` as llm.c's files into `out`; the files, validation first.

    As there, files are numbered through both splits.
    """
    index = read_index(folder)
    wide = index["vocab_size"] > 2**16
    magic, version = list(FORMS)[wide]
    out.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for split in ("validation", "train"):
        tokens = index["splits"][split]["tokens"]
        stream = _stream(folder, index, split)
        for start in range(0, tokens, file_tokens):
            count = min(file_tokens, tokens - start)
            file = out / NAMES[split].format(len(files))
            header: NDArray[np.int32] = np.zeros(HEADER, dtype="<i4")
            header[:3] = magic, version, count
            with file.open("wb") as writing:
                writing.write(header.tobytes())
                for part in _taken(stream, count):
                    writing.write(part.astype(FORMS[magic, version]).tobytes())
            files.append(file)
    return files


class _Stream:
    """Arrays read on, from wherever the last reading stopped."""

    def __init__(self, arrays: Iterator[NDArray[Any]]) -> None:
        self.arrays = arrays
        self.rest: NDArray[Any] = np.empty(0, dtype=np.int64)


def _stream(folder: Path, index: dict[str, Any], split: str) -> _Stream:
    """A split with its end-of-text tokens moved from behind the documents to before them."""

    def arrays() -> Iterator[NDArray[Any]]:
        yield np.array([index["eos_token_id"]])
        for shard in shards_of(index, split):
            yield memmapped(folder, shard, index)

    return _Stream(arrays())


def _taken(stream: _Stream, count: int) -> Iterator[NDArray[Any]]:
    """The next `count` tokens, in parts."""
    while count:
        if not len(stream.rest):
            stream.rest = next(stream.arrays)
        part = stream.rest[: min(count, BLOCK)]
        yield part
        stream.rest = stream.rest[len(part) :]
        count -= len(part)
