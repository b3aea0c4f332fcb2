"""How many characters of a text stand in repeated n-grams of words, as Gopher's rules count them.

Most texts repeat few n-grams, so hashes say first where any are: sorted, equal ones are neighbours.
Characters are then counted on the words themselves, and no collision of hashes adds a repetition
of 5 words or more. https://arxiv.org/abs/2112.11446, table A1; what is counted follows
https://github.com/huggingface/datatrove/blob/a649de79c14a550dc90f48a15c025f2dd3fd3b57/src/datatrove/pipeline/filters/gopher_repetition_filter.py
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[Any]

MULTIPLIER = np.int64(6364136223846793005)  # Knuth's, of MMIX
MOST_SIGNATURES = 500_000  # words, about 70 MB


class Signatures(dict[str, int]):
    """Word -> the sum of its characters' hashes, so that of joined words is the sum of theirs.

    Equal texts have equal sums, wherever their words begin. Unequal ones may have, such as the
    same characters in another order; so a sum only says where to look.
    """

    def __missing__(self, word: str) -> int:
        self[word] = signature = sum(map(hash, word)) % 2**64
        return signature


SIGNATURES = Signatures()


class RepeatedWords:
    """The repetitions in the words of one text."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words
        self.hashes = np.fromiter(map(hash, words), np.int64, len(words))

    def top_characters(self, n: int) -> int:
        """Characters of the most frequent n-gram, with a space between words, times its count.

        Among equally frequent ones the first in the text stands for all. 0 for fewer than n words.
        """
        number = len(self.words) - n + 1
        if number < 1:
            return 0
        grams = self.hashes[:number].copy()
        for place in range(1, n):
            grams = grams * MULTIPLIER + self.hashes[place : number + place]
        ordered = np.sort(grams)
        starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, [number]])
        counts = np.diff(starts)
        most = int(counts.max())
        best = ordered[starts[:-1][counts == most]]
        first = int(np.isin(grams, best).argmax()) if most > 1 else 0
        return len(" ".join(self.words[first : first + n])) * most

    @cached_property
    def sums(self) -> Numbers:
        """Of the signatures of all words before each place; differences are those of n-grams."""
        if len(SIGNATURES) > MOST_SIGNATURES:
            SIGNATURES.clear()
        each = np.fromiter(map(SIGNATURES.__getitem__, self.words), np.uint64, len(self.words))
        return np.concatenate([np.zeros(1, np.uint64), np.cumsum(each)])

    def duplicated_characters(self, n: int) -> int:
        """Characters, without spaces, of n-grams seen before, in the order of the text.

        A hit is passed over whole, so that overlapping repetitions count once. Words are run
        together, so that "8 80" repeats "88 0".
        """
        seen: set[str] = set()
        characters = end = 0  # `end`: the word behind the last hit
        for i in repeated(self.sums[n:] - self.sums[:-n]):
            if i < end:
                continue
            ngram = "".join(self.words[i : i + n])
            if ngram in seen:
                characters += len(ngram)
                end = i + n
            else:
                seen.add(ngram)
        return characters


def repeated(grams: Numbers) -> Sequence[int]:
    """Places of the numbers that occur more than once."""
    ordered = np.sort(grams)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    places: list[int] = np.flatnonzero(np.isin(grams, twice)).tolist() if len(twice) else []
    return places
