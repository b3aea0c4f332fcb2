"""Long lists of domains and URLs as sorted hashes in a file that all processes map into memory.

A list of 4.5 million domains is a Python set of 0.5 GB in every worker; here it is 36 MB that lie
in memory once. An entry is 64 bits of BLAKE2b: 4.5 million of them give a false match with a chance
of 2.5e-13 a look-up.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Hashes: TypeAlias = NDArray[Any]  # of uint64, sorted
VERSION = b"1"  # of the file format


class HashedList:
    """The lines of all `files`, mapped from a cache that is filled when the files are new.

    A file is given by its path; `"lists.tar.gz!domains"` is a member of an archive.
    """

    def __init__(self, files: tuple[str, ...]) -> None:
        digest = hashlib.sha256(VERSION)
        for file in files:
            with Path(file.partition("!")[0]).open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest() + file.encode())
        path = cache_folder() / f"{digest.hexdigest()[:32]}.npy"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.stem}.{os.getpid()}.npy")
            np.save(partial, hashes_of(line for file in files for line in lines_of(file)))
            os.replace(partial, path)
        self.hashes: Hashes = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.hashes)

    def __contains__(self, entry: str) -> bool:
        if not len(self.hashes):
            return False
        wanted = np.frombuffer(digest_of(entry), "<u8")[0]
        place = int(np.searchsorted(self.hashes, wanted))
        return place < len(self.hashes) and bool(self.hashes[place] == wanted)


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/llmkit/url_lists`, by default below `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmkit" / "url_lists"


def lines_of(file: str) -> Iterator[str]:
    """The entries of a list: stripped lines, without blank ones and those that begin with `#`."""
    path, _, member = file.partition("!")
    if member:
        with tarfile.open(path) as archive:
            stream = archive.extractfile(member)
            if stream is None:
                raise FileNotFoundError(file)
            lines = stream.read().decode("utf-8", "replace").split("\n")
    else:
        lines = Path(path).read_text("utf-8", "replace").split("\n")
    yield from (line.strip() for line in lines if line.strip() and line[0] != "#")


def hashes_of(entries: Iterable[str]) -> Hashes:
    digests = b"".join(map(digest_of, entries))
    return np.unique(np.frombuffer(digests, "<u8"))


def digest_of(entry: str) -> bytes:
    return hashlib.blake2b(entry.encode("utf-8", "replace"), digest_size=8).digest()
