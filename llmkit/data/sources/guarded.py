"""Files as streams of bytes, decompressed under guard: damage is named, and bombs do not go off.

A packed stream may give at most `BURST` bytes more than `RATIO` times the packed bytes that it
took; credit that a tame stretch leaves unused is not saved up. Real pages pack about 4 times,
deflate ends at 1,032 (https://zlib.net/feldspar.html), and a bomb of 200 kB would give 200 MB.

gzip files may hold many members one after another (RFC 1952, section 2.2), as WARC files do, one
for a record; `Gunzip.resync` goes on at the next member after a broken one.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from llmkit.errors import InputError, MissingExtraError

BURST = 64 << 20
RATIO = 100
CHUNK = 64 << 10  # packed bytes read at a time
BUFFER = 128 << 10
MEMBER = b"\x1f\x8b\x08"  # how a gzip member begins: the magic number, and "deflate"
MAGIC = {b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst", b"\x5d\x2a\x4d\x18": "zst"}


class Damaged(InputError):
    """A file that broke while it was read. What came before is good.

    Attributes:
        reason: `truncated`, `corrupt`, `bomb` or `unreadable`, as the record counts it.
    """

    def __init__(self, where: str, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(where, f"cannot be read: {detail}", "download or write it again")


class Guard:
    """Lets through what a packed stretch may give, and raises `Damaged` at more."""

    def __init__(self, where: str) -> None:
        self.where, self.credit = where, BURST

    def spend(self, taken: int, given: int) -> None:
        if taken:
            self.credit = min(BURST, self.credit) + RATIO * taken
        self.credit -= given
        if self.credit < 0:
            what = f"a decompression bomb (more than {RATIO} times the packed bytes)"
            raise Damaged(self.where, "bomb", what)


class Gunzip(io.RawIOBase):
    """The content of all members of a gzip file. Zeros after the last one are padding."""

    def __init__(self, packed: BinaryIO, where: str) -> None:
        super().__init__()
        self.packed, self.where = packed, where
        self._begin(0)

    def _begin(self, at: int) -> None:
        self.packed.seek(at)
        self.read_to = self.member = at  # offsets in the packed file
        self.rest = b""
        self.inflate: Any = None
        self.guard = Guard(self.where)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises Damaged where the file does. Zero only at its end."""
        while True:
            taken = self._more() if not self.rest else 0
            if not self.rest and not self._ends():
                return 0
            if self.inflate is None and not self._member():
                return 0
            try:
                given = self.inflate.decompress(self.rest, len(buffer))
            except zlib.error as error:
                raise Damaged(self.where, "corrupt", str(error)) from error
            self.rest = self.inflate.unconsumed_tail
            if self.inflate.eof:
                self.rest, self.inflate = self.inflate.unused_data, None
            self.guard.spend(taken, len(given))
            if given:
                buffer[: len(given)] = given
                return len(given)

    def _more(self) -> int:
        self.rest = self.packed.read(CHUNK)
        self.read_to += len(self.rest)
        return len(self.rest)

    def _ends(self) -> bool:
        """At the end of the packed bytes: False if the content ends with them."""
        if self.inflate is None:
            return False
        raise Damaged(self.where, "truncated", "the gzip data ends early")

    def _member(self) -> bool:
        """Begin the member that `rest` begins with; False where only padding is left."""
        self.rest = self.rest.lstrip(b"\0")
        while len(self.rest) < len(MEMBER) and self._append():
            self.rest = self.rest.lstrip(b"\0")
        if not self.rest:
            return False
        self.member = self.read_to - len(self.rest)
        if not self.rest.startswith(MEMBER):
            raise Damaged(self.where, "corrupt", "no gzip data where it should begin")
        self.inflate = zlib.decompressobj(wbits=31)
        return True

    def _append(self) -> bool:
        more = self.packed.read(CHUNK)
        self.read_to += len(more)
        self.rest += more
        return bool(more)

    def resync(self, begins: Callable[[bytes], Any]) -> bool:
        """Go to the next member whose content `begins` accepts (it gets up to 64 bytes).

        Returns False where there is none; the stream then ends.
        """
        at = self.member + 1
        while (at := self._find(at)) >= 0:
            self.packed.seek(at)
            try:
                head = zlib.decompressobj(wbits=31).decompress(self.packed.read(CHUNK), 64)
            except zlib.error:
                head = b""
            if begins(head):
                self._begin(at)
                return True
            at += 1
        self.packed.seek(0, io.SEEK_END)
        self.rest, self.inflate = b"", None
        return False

    def _find(self, at: int) -> int:
        """Offset of the next bytes that look like a member's head, from `at` on; -1 if none."""
        self.packed.seek(at)
        kept = b""
        while chunk := self.packed.read(1 << 20):
            found = (kept + chunk).find(MEMBER)
            if found >= 0:
                return at - len(kept) + found
            at += len(chunk)
            kept = (kept + chunk)[-len(MEMBER) + 1 :]
        return -1


class Expand(io.RawIOBase):
    """The content of a packed stream, from `read`, which a library unpacks from `packed`."""

    def __init__(self, packed: BinaryIO, read: Callable[[int], bytes], where: str) -> None:
        super().__init__()
        self.packed, self.unpack, self.where = packed, read, where
        self.guard, self.position = Guard(where), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            given = self.unpack(len(buffer))
        except OSError as error:
            text = str(error)
            short = "ncomplete" in text or "runcated" in text or "unexpected end" in text
            raise Damaged(self.where, "truncated" if short else "corrupt", text) from error
        position = self.packed.tell()
        self.guard.spend(position - self.position, len(given))
        self.position = position
        buffer[: len(given)] = given
        return len(given)


def packing_of(file: Path) -> str:
    """`gz`, `zst` or nothing, by the file's first bytes."""
    with file.open("rb") as stream:
        head = stream.read(4)
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")


def unpacked(packed: BinaryIO, packing: str, where: str, dictionary: bool = False) -> io.RawIOBase:
    """The content of an open file: `packing` is `gz`, `zst` or nothing.

    `dictionary`: zstd data may begin with a dictionary of its own, as `.warc.zst` files do
    (https://iipc.github.io/warc-specifications/specifications/warc-zstd/); that needs fastwarc.
    """
    if packing == "gz":
        return Gunzip(packed, where)
    if packing != "zst":
        return cast(io.RawIOBase, packed)
    if dictionary:
        try:
            from fastwarc.stream_io import ZstdReader
        except ImportError as error:
            raise MissingExtraError("fastwarc", "web", "reading .warc.zst files") from error
        return Expand(packed, ZstdReader(packed).read, where)
    import pyarrow as pa

    stream = pa.CompressedInputStream(pa.PythonFile(packed, "r"), "zstd")
    return Expand(packed, stream.read, where)
