"""Token shards on disk: writing them so that a kill costs one shard, and their digests.

A folder of shards holds, for each split (`train`, `validation`):

  <split>-NNNNN.bin        token ids, little-endian uint16 (vocabularies up to 65,536) or uint32;
                           whole documents one after another, each closed by the end-of-text token
  <split>-NNNNN.ends.npy   where each document ends in that file, counted in tokens, as uint64
  index.json               what is in the files: counts, bytes of text, SHA-256 of each
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from llmkit.errors import InputError
from llmkit.run_dir import sha256_of

SPLITS = ("train", "validation")
STORED = {"uint16": "<u2", "uint32": "<u4"}  # index.json's word -> what lies in the files
REMEDY = "run the tokenize stage again with --force"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One finished file of tokens; `bytes` counts the UTF-8 bytes of its documents' texts."""

    file: str
    sha256: str
    tokens: int
    documents: int
    bytes: int
    ends_sha256: str

    @property
    def ends_file(self) -> str:
        return self.file.removesuffix(".bin") + ".ends.npy"


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """Two bytes a token where they suffice, else four; little-endian on every machine."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def stored_dtype(index: Mapping[str, Any]) -> np.dtype[Any]:
    """How the tokens lie in the files that `index` tells of, whatever this machine's own order.

    Raises:
        KeyError: shards have no tokens of that type.
    """
    return np.dtype(STORED[index["dtype"]])


def write_json(path: Path, value: object) -> None:
    """Write whole or not at all, with the same bytes for the same value."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(partial, path)


class ShardWriter:
    """Appends documents to the shards of one split, going on after the last finished shard.

    A shard is closed by the document that fills it, so its bytes depend on its documents alone and
    not on how they came in batches. Files appear under their names complete; what is being written
    lies in `scratch`, with a note for each finished shard.

    Attributes:
        shards: the finished ones. Their documents are not to be added again.
    """

    def __init__(
        self, out: Path, scratch: Path, split: str, *, vocab_size: int, eos: int, shard_tokens: int
    ) -> None:
        self.out, self.scratch, self.split = out, scratch, split
        self.vocab_size, self.eos, self.shard_tokens = vocab_size, eos, shard_tokens
        self.dtype = token_dtype(vocab_size)
        self.shards = self._finished()
        self._file: BinaryIO | None = None

    def _finished(self) -> list[Shard]:
        """Shards of an earlier try, up to the first one that is not whole any more."""
        shards: list[Shard] = []
        while (note := self._note(len(shards))).is_file():
            shard = Shard(**json.loads(note.read_text(encoding="utf-8")))
            if list(damaged_files(self.out, shard)):
                break
            shards.append(shard)
        return shards

    def _note(self, number: int) -> Path:
        return self.scratch / f"{self.split}-{number:05d}.json"

    def add(self, documents: Sequence[Sequence[int]], sizes: Sequence[int]) -> None:
        """Append documents (their ids, without end-of-text) whose texts have `sizes` bytes."""
        lengths = np.array([len(document) for document in documents], dtype=np.int64)
        count = int(lengths.sum())
        ids = np.fromiter(chain.from_iterable(documents), dtype=np.int64, count=count)
        self.add_flat(ids, lengths, np.array(sizes, dtype=np.int64))

    def add_flat(
        self, ids: NDArray[np.int64], lengths: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> None:
        """Append documents given as all their ids one after another, and each one's length."""
        ids, ends = self._closed(ids, lengths)
        text_bytes = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        first = 0
        while first < len(ends):
            if self._file is None:
                self._open()
            start = int(ends[first - 1]) if first else 0
            room = self.shard_tokens - self._tokens
            last = min(int(np.searchsorted(ends, start + room)) + 1, len(ends))
            self._append(ids[start : ends[last - 1]], ends[first:last] - start)
            self._bytes += int(text_bytes[last] - text_bytes[first])
            if self._tokens >= self.shard_tokens:
                self._close()
            first = last

    def _closed(
        self, ids: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The ids with end-of-text behind each document, and where each one ends then."""
        if ids.size and not 0 <= ids.min() <= ids.max() < self.vocab_size:
            what = f"it gave ids {ids.min()} to {ids.max()}; its vocabulary is {self.vocab_size}"
            raise InputError("tokenizer", what, "train or choose another tokenizer")
        ends = np.cumsum(lengths + 1)
        closed: NDArray[np.int64] = np.full(len(ids) + len(ends), self.eos, dtype=np.int64)
        is_text: NDArray[np.bool_] = np.ones(len(closed), dtype=bool)
        is_text[ends - 1] = False
        closed[is_text] = ids
        return closed, ends

    def _open(self) -> None:
        self._file = (self.scratch / f"{self.split}.bin").open("wb")
        self._hash = hashlib.sha256()
        self._ends: list[NDArray[np.int64]] = []
        self._tokens = self._bytes = 0

    def _append(self, ids: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        assert self._file is not None
        data = ids.astype(self.dtype).tobytes()
        self._file.write(data)
        self._hash.update(data)
        self._ends.append(ends + self._tokens)
        self._tokens += len(ids)

    def _close(self) -> None:
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        number = len(self.shards)
        ends = np.concatenate(self._ends).astype("<u8")
        partial_ends = self.scratch / f"{self.split}.ends.npy"
        np.save(partial_ends, ends)
        shard = Shard(
            file=f"{self.split}-{number:05d}.bin",
            sha256=self._hash.hexdigest(),
            tokens=self._tokens,
            documents=len(ends),
            bytes=self._bytes,
            ends_sha256=sha256_of(partial_ends),
        )
        os.replace(self.scratch / f"{self.split}.bin", self.out / shard.file)
        os.replace(partial_ends, self.out / shard.ends_file)
        write_json(self._note(number), asdict(shard))
        self.shards.append(shard)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        """Let go of a shard that is not finished; it will be written anew."""
        if self._file is not None:
            self._file.close()

    def finish(self) -> dict[str, Any]:
        """Close the last shard; the split's entry in `index.json`."""
        if self._file is not None:
            self._close()
        return {
            "tokens": sum(shard.tokens for shard in self.shards),
            "documents": sum(shard.documents for shard in self.shards),
            "bytes": sum(shard.bytes for shard in self.shards),
            "shards": [asdict(shard) for shard in self.shards],
        }


def read_index(folder: Path) -> dict[str, Any]:
    """`index.json` of a folder of shards, after a look at the size of every file it names.

    Raises:
        InputError: there is no index, it is broken, or a file is missing or of the wrong size.
    """
    path = folder / "index.json"
    if not path.is_file():
        raise InputError(str(path), "no such file", "give the folder of a tokenize stage")
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        width = stored_dtype(index).itemsize
        for shard in shards_of(index):
            file = folder / shard.file
            found = file.stat().st_size if file.is_file() else 0
            if found != shard.tokens * width:
                what = f"has {found} bytes where {shard.tokens * width} are due"
                raise InputError(str(file), what, REMEDY)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(str(path), f"is not an index of shards ({error})", REMEDY) from error
    return index


def memmapped(folder: Path, shard: Shard, index: Mapping[str, Any]) -> NDArray[Any]:
    """The tokens of a shard, read from the disk where they are looked at."""
    return np.memmap(folder / shard.file, dtype=stored_dtype(index), mode="r")


def shards_of(index: dict[str, Any], split: str | None = None) -> list[Shard]:
    """The shards of one split, or of both, in order."""
    splits = SPLITS if split is None else (split,)
    return [Shard(**shard) for name in splits for shard in index["splits"][name]["shards"]]


def damaged_files(folder: Path, shard: Shard) -> list[str]:
    """Those of a shard's two files that are missing or differ from their digest."""
    due = {shard.file: shard.sha256, shard.ends_file: shard.ends_sha256}
    return [
        file
        for file, digest in due.items()
        if not (folder / file).is_file() or sha256_of(folder / file) != digest
    ]


def verify(folder: Path) -> None:
    """Read every file of the shards and compare digests (about a second a gigabyte).

    Raises:
        InputError: a file differs from what was written; all such files are named.
    """
    damaged = [file for s in shards_of(read_index(folder)) for file in damaged_files(folder, s)]
    if damaged:
        raise InputError(str(folder), f"changed since written: {', '.join(damaged)}", REMEDY)
