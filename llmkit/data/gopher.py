"""Gopher's rules of quality and repetition, with FineWeb's readings of them.

Rae et al. 2021, https://arxiv.org/abs/2112.11446, appendix A.1.1 and table A1. Order of the rules,
strictness of the comparisons and what is divided by what follow datatrove at a649de7, with which
FineWeb is made:
https://github.com/huggingface/datatrove/tree/a649de79c14a550dc90f48a15c025f2dd3fd3b57/src/datatrove/pipeline/filters
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import filterfalse
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmkit.data.english_words import SENTENCE_ENDS
from llmkit.data.filters import Dropped, Filter, duplicates, split_words

PARAGRAPHS = re.compile(r"\n{2,}")
LINES = re.compile(r"\n+")
STOP_WORDS = frozenset(["the", "be", "to", "of", "and", "that", "have", "with"])
ELLIPSES = ("...", "…")
FULL_WIDTH_ONE = "１"  # the one digit among datatrove's punctuation
# A word of nothing but these does not count as a word: control characters, and punctuation as
# https://github.com/huggingface/datatrove/blob/a649de79c14a550dc90f48a15c025f2dd3fd3b57/src/datatrove/utils/text.py
# has it. Other symbols ("™", pictures) are words.
SYMBOLS = SENTENCE_ENDS.union(
    map(chr, [*range(9), *range(11, 32), *range(127, 160)]),
    "\"#$%&'()*+,-/:;<=>@[\\]^_`{|}~«´»–—’“”„…∶━►、〈〉《》「」【】％（），：；～" + FULL_WIDTH_ONE,
    "\u061d\u061e\u0837\u0839\u083d\u083e\u17d4\u17d5\u17d6\u17d9\u17da\u1b7d\u1b7e\u2e53\u2e54",
    "\U00010f55\U00010f56\U00010f57\U00010f58\U00010f59\U00010f86\U00010f87\U00010f88\U00010f89",
    "\U00011944\U00011946\U00011ef7\U00011ef8\U00011f43\U00011f44\U00016e98",
)
MULTIPLIER = np.int64(6364136223846793005)  # Knuth's, of MMIX
MOST_SIGNATURES = 500_000  # words, about 70 MB


@dataclass(frozen=True, kw_only=True)
class GopherQuality(Filter):
    """Drops texts whose words and lines are not those of prose."""

    name: ClassVar[str] = "gopher_quality"

    min_doc_words: int = 50  # words with a letter or a digit
    max_doc_words: int = 100_000
    min_avg_word_length: float = 3  # characters
    max_avg_word_length: float = 10
    max_symbol_word_ratio: float = 0.1  # '#' per word, and likewise ellipses
    max_bullet_lines_ratio: float = 0.9
    max_ellipsis_lines_ratio: float = 0.3
    min_alpha_words_ratio: float = 0.8  # words with at least one letter
    min_stop_words: int = 2  # different ones, of eight

    def check(self, text: str) -> Dropped | None:
        words = split_words(text)
        return (
            self._check_words(words)
            or self._check_symbols(text, len(words))
            or (self._check_vocabulary(words))
        )

    def _check_words(self, words: tuple[str, ...]) -> Dropped | None:
        marked = filterfalse(str.isalnum, words)  # most words stop here, at C's speed
        if FULL_WIDTH_ONE in words:
            marked = iter(words)
        symbols = [word for word in marked if SYMBOLS.issuperset(word)]
        number = len(words) - len(symbols)
        if number < self.min_doc_words:
            return Dropped("gopher_short_doc", number)
        if number > self.max_doc_words:
            return Dropped("gopher_long_doc", number)
        mean = (sum(map(len, words)) - sum(map(len, symbols))) / max(number, 1)
        if mean < self.min_avg_word_length:
            return Dropped("gopher_below_avg_threshold", mean)
        if mean > self.max_avg_word_length:
            return Dropped("gopher_above_avg_threshold", mean)
        return None

    def _check_symbols(self, text: str, num_words: int) -> Dropped | None:
        hashes = text.count("#") / num_words
        if hashes > self.max_symbol_word_ratio:
            return Dropped("gopher_too_many_hashes", hashes)
        ellipses = sum(text.count(mark) for mark in ELLIPSES) / num_words
        if ellipses > self.max_symbol_word_ratio:
            return Dropped("gopher_too_many_ellipsis", ellipses)
        lines = text.splitlines()
        bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines) / len(lines)
        if bullets > self.max_bullet_lines_ratio:
            return Dropped("gopher_too_many_bullets", bullets)
        trailing = sum(line.rstrip().endswith(ELLIPSES) for line in lines) / len(lines)
        if trailing > self.max_ellipsis_lines_ratio:
            return Dropped("gopher_too_many_end_ellipsis", trailing)
        return None

    def _check_vocabulary(self, words: tuple[str, ...]) -> Dropped | None:
        mixed = [word for word in filterfalse(str.isalpha, words) if len(word) > 1]
        alphabetic = sum(map(str.isalpha, words))
        alphabetic += sum(any(map(str.isalpha, word)) for word in mixed)
        if alphabetic / len(words) < self.min_alpha_words_ratio:
            return Dropped("gopher_below_alpha_threshold", alphabetic / len(words))
        found = len(STOP_WORDS.intersection(words))
        if found < self.min_stop_words:
            return Dropped("gopher_enough_stop_words", found)
        return None


@dataclass(frozen=True, kw_only=True)
class GopherRepetition(Filter):
    """Drops texts that repeat their lines, paragraphs or phrases.

    Each field is the largest share that passes: of lines or paragraphs by number, of the text's
    characters by `*_char_frac`, and of its characters within the most frequent (`top`) or within
    all repeated (`duplicated`) n-grams of words.
    """

    name: ClassVar[str] = "gopher_repetition"

    dup_para_frac: float = 0.3
    dup_para_char_frac: float = 0.2
    dup_line_frac: float = 0.3
    dup_line_char_frac: float = 0.2
    top_2_gram: float = 0.20
    top_3_gram: float = 0.18
    top_4_gram: float = 0.16
    duplicated_5_grams: float = 0.15
    duplicated_6_grams: float = 0.14
    duplicated_7_grams: float = 0.13
    duplicated_8_grams: float = 0.12
    duplicated_9_grams: float = 0.11
    duplicated_10_grams: float = 0.10

    def check(self, text: str) -> Dropped | None:
        pieces = self._check_pieces(text) if "\n" in text else None
        return pieces or self._check_phrases(text)

    def _check_pieces(self, text: str) -> Dropped | None:
        paragraphs = PARAGRAPHS.split(text.strip())
        number, characters = duplicates(paragraphs)
        if number / len(paragraphs) > self.dup_para_frac:
            return Dropped("dup_para_frac", number / len(paragraphs))
        if characters / len(text) > self.dup_para_char_frac:
            return Dropped("dup_para_char_frac", characters / len(text))
        lines = LINES.split(text)
        number, characters = duplicates(lines)
        if number / len(lines) > self.dup_line_frac:
            return Dropped("dup_line_frac", number / len(lines))
        if characters / len(text) > self.dup_line_char_frac:
            return Dropped("dup_line_char_frac", characters / len(text))
        return None

    def _check_phrases(self, text: str) -> Dropped | None:
        words = split_words(text)
        hashes = np.fromiter(map(hash, words), np.int64, len(words))
        for n, bound in enumerate((self.top_2_gram, self.top_3_gram, self.top_4_gram), start=2):
            share = top_characters(words, hashes, n) / len(text)
            if share > bound:
                return Dropped(f"top_{n}_gram", share)
        bounds = (
            self.duplicated_5_grams,
            self.duplicated_6_grams,
            self.duplicated_7_grams,
            self.duplicated_8_grams,
            self.duplicated_9_grams,
            self.duplicated_10_grams,
        )
        sums = np.fromiter(map(SIGNATURES.__getitem__, words), np.uint64, len(words))
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(sums)])
        SIGNATURES.make_room()
        for n, bound in enumerate(bounds, start=5):
            share = duplicated_characters(words, n, repeated(sums[n:] - sums[:-n])) / len(text)
            if share > bound:
                return Dropped(f"duplicated_{n}_grams", share)
        return None


Words = tuple[str, ...]
Numbers: TypeAlias = NDArray[Any]


class Signatures(dict[str, int]):
    """Word -> the sum of its characters' hashes, so that of joined words is the sum of theirs.

    Equal texts have equal sums, wherever their words begin. Unequal ones may have, such as the
    same characters in another order; so a sum only says where to look.
    """

    def __missing__(self, word: str) -> int:
        self[word] = signature = sum(map(hash, word)) % 2**64
        return signature

    def make_room(self) -> None:
        if len(self) > MOST_SIGNATURES:
            self.clear()


SIGNATURES = Signatures()


def top_characters(words: Words, hashes: Numbers, n: int) -> int:
    """Characters of the most frequent n-gram, with a space between words, times its count.

    Among equally frequent ones the first in the text stands for all. 0 for fewer than n words.
    """
    if len(words) < n:
        return 0
    grams = hashes[: len(words) - n + 1].copy()
    for place in range(1, n):
        grams = grams * MULTIPLIER + hashes[place : len(words) - n + 1 + place]
    ordered = np.sort(grams)
    starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, [len(grams)]])
    counts = np.diff(starts)
    most = int(counts.max())
    first = int(np.isin(grams, ordered[starts[:-1][counts == most]]).argmax()) if most > 1 else 0
    return len(" ".join(words[first : first + n])) * most


def repeated(grams: Numbers) -> Sequence[int]:
    """Places of the numbers that occur more than once."""
    ordered = np.sort(grams)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    places: list[int] = np.flatnonzero(np.isin(grams, twice)).tolist() if len(twice) else []
    return places


def duplicated_characters(words: Words, n: int, places: Sequence[int]) -> int:
    """Characters, without spaces, of n-grams seen before, in the order of the text.

    A hit is passed over whole, so that overlapping repetitions count once. `places` holds all where
    repeated ones begin. Words are run together, so that "8 80" repeats "88 0", as in datatrove.
    """
    seen: set[str] = set()
    characters = end = 0  # `end`: the word behind the last hit
    for i in places:
        if i < end:
            continue
        ngram = "".join(words[i : i + n])
        if ngram in seen:
            characters += len(ngram)
            end = i + n
        else:
            seen.add(ngram)
    return characters
