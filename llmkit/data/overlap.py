"""Which examples of a task stand in the training text: n-grams of words that both have.

An n-gram is 8 words in a row, words being runs of letters and digits without their case. Eight is
the shortest that the GPT-3 paper uses (8 to 13, https://arxiv.org/abs/2005.14165, appendix C), and
what PaLM (https://arxiv.org/abs/2204.02311, section 8) and Open R1 use. An example overlaps when
one n-gram of one of its texts stands in the training text. One whose texts are all shorter overlaps
when its longest text stands there whole; under 4 words it is not judged.

The examples' n-grams are held in memory, the training text is read once, a batch at a time. An
n-gram is known by a hash of 64 bits: a million of them against 10^10 words of training text give
0.0005 false matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

NGRAM = 8  # words
SHORTEST = 4  # words of a text that is matched whole
BATCH_WORDS = 200_000  # hashed at once
_WORD = re.compile(r"\w+")
_SPACES = {number: " " for number in range(128) if not _WORD.match(chr(number))}
_PRIME = np.uint64(1_000_000_007)
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))

Hashes: TypeAlias = NDArray[Any]  # of uint64


def words_of(text: str) -> list[str]:
    """`What's 27 + 45?` -> `["what", "s", "27", "45"]`."""
    if text.isascii():  # the same words in half the time
        return text.lower().translate(_SPACES).split()
    return _WORD.findall(text.lower())


@dataclass(frozen=True, kw_only=True)
class Found:
    """Of the examples of a task, how many were `judged`, and which of them `overlap`."""

    judged: int
    overlapping: list[int]  # their numbers, from 0

    @property
    def share(self) -> float:
        return len(self.overlapping) / self.judged if self.judged else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the n-grams of an example stand among all of their length; 0 for one not judged."""

    length: int
    start: int
    end: int


class Overlap:
    """Looks for the examples of tasks in texts that it is given one after the other.

    Args:
        tasks: name of a task -> its examples, each as the texts that belong to it.
    """

    def __init__(self, tasks: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._numbers: dict[str, int] = {}  # of every word that some example has, from 1
        self._places: dict[str, list[Place]] = {}  # of each example's n-grams
        self._hashes: dict[int, Hashes] = {}  # length -> of all n-grams, example after example
        self._wanted: dict[int, Hashes] = {}  # the same, each once and sorted
        self._seen: dict[int, NDArray[Any]] = {}  # whether a training text has it
        rows: dict[int, list[int]] = {}  # length -> numbers of the words; 0 closes a text
        for name, examples in tasks.items():
            self._places[name] = [self._place(texts, rows) for texts in examples]
        for length, numbers in rows.items():
            self._hashes[length] = hashes_of(np.array(numbers), length)
            self._wanted[length] = np.unique(self._hashes[length])
            self._seen[length] = np.zeros(len(self._wanted[length]), bool)

    def _place(self, texts: Sequence[str], rows: dict[int, list[int]]) -> Place:
        """Append an example to the row of its length, and say where it stands."""
        spoken = [words_of(text) for text in texts]
        longest = max(spoken, key=len, default=[])
        length = min(len(longest), NGRAM)
        if length < SHORTEST:
            return Place(length=0, start=0, end=0)
        row = rows.setdefault(length, [])
        start, known = len(row), self._numbers
        for words in spoken if length == NGRAM else [longest]:
            row += [known.setdefault(word, len(known) + 1) for word in words]
            row.append(0)
        return Place(length=length, start=start, end=len(row) - length)

    def read(self, texts: Iterable[str]) -> None:
        """Look through training texts; no n-gram goes over the end of one."""
        batch: list[int] = []
        known = self._numbers.get
        for text in texts:
            batch += [known(word, 0) for word in words_of(text)]
            batch.append(0)
            if len(batch) >= BATCH_WORDS:
                self._look(batch)
                batch = []
        self._look(batch)

    def _look(self, batch: list[int]) -> None:
        """Mark the n-grams of `batch` that are wanted; 0 is a word that no example has."""
        numbers = np.array(batch, dtype=np.int64)
        unknown = np.concatenate([[0], np.cumsum(numbers == 0)])
        for length, wanted in self._wanted.items():
            hashes = hashes_of(numbers, length)
            hashes = hashes[unknown[length:] == unknown[:-length]] if len(hashes) else hashes
            places = np.searchsorted(wanted, hashes).clip(max=len(wanted) - 1)
            self._seen[length][places[wanted[places] == hashes]] = True

    def found(self) -> dict[str, Found]:
        """Task -> what the texts read so far say of its examples."""
        seen = {
            length: self._seen[length][np.searchsorted(self._wanted[length], hashes)]
            for length, hashes in self._hashes.items()
        }
        return {
            name: Found(
                judged=sum(place.length > 0 for place in places),
                overlapping=[
                    number
                    for number, at in enumerate(places)
                    if at.length and seen[at.length][at.start : at.end].any()
                ],
            )
            for name, places in self._places.items()
        }


def hashes_of(numbers: NDArray[np.int64], length: int) -> Hashes:
    """A hash of each window of `length` numbers: sum of mixed(number) * prime^place, mod 2^64."""
    if len(numbers) < length:
        return np.empty(0, np.uint64)
    mixed = numbers.astype(np.uint64) * _MIX[0]  # SplitMix64's finaliser
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX[1]
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX[2]
    mixed ^= mixed >> np.uint64(31)
    windows = len(mixed) - length + 1
    hashes: Hashes = np.zeros(windows, np.uint64)
    for place in range(length):
        hashes = hashes * _PRIME + mixed[place : place + windows]
    return hashes
