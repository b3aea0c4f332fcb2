"""How many characters of a text stand in repeated n-grams of words, as Gopher's rules count them.

Most texts are far from a rule's bound, and that is cheap to see: by how often single words occur,
or by how many n-grams occur again. So each count comes with a figure that it cannot exceed, and is
made, on the words themselves, only where that figure breaks the rule.
https://arxiv.org/abs/2112.11446, table A1; what is counted follows
https://github.com/huggingface/datatrove/blob/a649de79c14a550dc90f48a15c025f2dd3fd3b57/src/datatrove/pipeline/filters/gopher_repetition_filter.py
"""

from __future__ import annotations

from collections import Counter
from operator import mul
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[Any]

MULTIPLIER = np.uint32(1664525)  # https://en.wikipedia.org/wiki/Linear_congruential_generator


def most_characters(counts: Counter[str]) -> int:
    """What `top_characters(words, n)` cannot exceed for each of the n, from how often words occur.

    An n-gram occurs no more often than any of its words, so each of its n places holds no more
    characters than all occurrences of some one word do, with a space after each.
    """
    characters = max(map(mul, counts.values(), map(len, counts)), default=0)
    return characters + max(counts.values(), default=0)


def top_characters(words: tuple[str, ...], n: int) -> int:
    """Characters of the most frequent n-gram, with a space between words, times its count.

    Among equally frequent ones the first in the text stands for all. 0 for fewer than n words.
    """
    counts = Counter(zip(*(words[place:] for place in range(n)), strict=False))
    if not counts:
        return 0
    best = max(counts, key=counts.__getitem__)
    return len(" ".join(best)) * counts[best]


class RepeatedWords:
    """The n-grams that occur more than once in the words of one text.

    Words are run together, so that "8 80" repeats "88 0". An n-gram is thus a slice of one string,
    and its hash a difference of two hashes of what stands before its ends:
    https://en.wikipedia.org/wiki/Rolling_hash, modulo 2^32, which sorts twice as fast as 2^64.
    """

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words
        self.ends: Numbers = np.zeros(len(words) + 1, np.int64)  # characters before each word
        np.cumsum(np.fromiter(map(len, words), np.int64, len(words)), out=self.ends[1:])
        text = "".join(words).encode("utf-32-le", "surrogatepass")
        powers = np.full(len(text) // 4 + 1, MULTIPLIER).cumprod(dtype=np.uint32)
        before = np.zeros_like(powers)
        np.cumsum(np.frombuffer(text, "<u4") * powers[:-1], out=before[1:], dtype=np.uint32)
        self.before = before[self.ends]
        self.powers = powers[self.ends[-1] - self.ends]  # makes equal what stands at unequal places

    def hashes(self, n: int) -> Numbers:
        """Of all n-grams: equal for equal ones, and hardly ever for others."""
        hashes: Numbers = (self.before[n:] - self.before[:-n]) * self.powers[:-n]
        return hashes

    def most_duplicated_characters(self, n: int) -> int:
        """What `duplicated_characters(n)` cannot exceed: all that occurs again, as long as any."""
        ordered = self.hashes(n)
        ordered.sort()
        again = np.count_nonzero(ordered[1:] == ordered[:-1])
        return int(again * (self.ends[n:] - self.ends[:-n]).max()) if again else 0

    def duplicated_characters(self, n: int) -> int:
        """Characters, without spaces, of n-grams seen before, in the order of the text.

        A hit is passed over whole, so that overlapping repetitions count once.
        """
        seen: set[str] = set()
        characters = end = 0  # `end`: the word behind the last hit
        for i in _repeated(self.hashes(n)):
            if i < end:
                continue
            ngram = "".join(self.words[i : i + n])
            if ngram in seen:
                characters += len(ngram)
                end = i + n
            else:
                seen.add(ngram)
        return characters


def _repeated(hashes: Numbers) -> list[int]:
    """Places of the numbers that occur more than once."""
    order = hashes.argsort()
    ordered = hashes[order]
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    return sorted({*order[twice].tolist(), *order[twice + 1].tolist()})
