"""Which documents are held out for validation: a matter of their text alone.

A document validates when the first eight bytes of BLAKE2b of its text, as a number below 2^64, are
at most a threshold. So neither order, seed nor the other documents matter, and equal texts never
stand on both sides. The threshold is fraction * 2^64, or the smallest hash there is where that
holds out nothing, so that a small corpus validates on one text at least.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from llmkit.data.documents import iter_texts
from llmkit.errors import InputError
from llmkit.progress import track


@dataclass(frozen=True, kw_only=True)
class Holdout:
    """How a corpus is divided, with the documents and UTF-8 bytes on either side."""

    threshold: int  # the largest hash that is held out; -1 when nothing is
    documents: dict[str, int]
    bytes: dict[str, int]

    def texts(self, folder: Path, split: str) -> Iterator[str]:
        """The texts of one split, in the order of the files."""
        for text, _, own in self.divided(iter_texts(folder)):
            if own == split:
                yield text

    def divided(self, texts: Iterable[str]) -> Iterator[tuple[str, int, str]]:
        """Each text with its UTF-8 bytes and the split that it belongs to."""
        for text in texts:
            data = text.encode()
            held_out = _hash(data) <= self.threshold
            yield text, len(data), "validation" if held_out else "train"


def text_hash(text: str) -> int:
    """A number in [0, 2^64) that the same text always gets."""
    return _hash(text.encode())


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def divide(folder: Path, fraction: float, label: str) -> Holdout:
    """Read all texts once and find the threshold for `fraction` of them.

    Raises:
        InputError: there is no text, or nothing is left to train on.
    """
    threshold, smallest = int(fraction * 2**64) - 1, 2**64
    documents, sizes = {"train": 0, "validation": 0}, {"train": 0, "validation": 0}
    of_smallest = [0, 0]  # documents and bytes, should they be all that validates
    for text in track(iter_texts(folder), f"{label}: dividing", unit="documents"):
        data = text.encode()
        number, size = _hash(data), len(data)
        split = "validation" if number <= threshold else "train"
        documents[split] += 1
        sizes[split] += size
        if number < smallest:
            smallest, of_smallest = number, [0, 0]
        if number == smallest:
            of_smallest = [of_smallest[0] + 1, of_smallest[1] + size]
    if fraction > 0 and documents["validation"] == 0:
        threshold = smallest
        documents = {"train": documents["train"] - of_smallest[0], "validation": of_smallest[0]}
        sizes = {"train": sizes["train"] - of_smallest[1], "validation": of_smallest[1]}
    if documents["train"] == 0:
        kept = documents["validation"]
        what = f"none of its {kept} documents is left to train on" if kept else "holds no document"
        raise InputError(str(folder), what, "curate more text, or lower validation_fraction")
    return Holdout(threshold=threshold, documents=documents, bytes=sizes)
