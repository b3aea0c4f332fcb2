"""Gopher's rules of quality and repetition, with FineWeb's readings of them.

Rae et al. 2021, https://arxiv.org/abs/2112.11446, appendix A.1.1 and table A1. Order of the rules,
strictness of the comparisons and what is divided by what follow datatrove at a649de7, with which
FineWeb is made:
https://github.com/huggingface/datatrove/tree/a649de79c14a550dc90f48a15c025f2dd3fd3b57/src/datatrove/pipeline/filters
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, filterfalse
from typing import ClassVar

from llmkit.data.filters import Dropped, Filter, duplicates, split_words

PARAGRAPHS = re.compile(r"\n{2,}")
LINES = re.compile(r"\n+")
STOP_WORDS = frozenset(["the", "be", "to", "of", "and", "that", "have", "with"])
ELLIPSES = ("...", "…")


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
        symbols = [
            word
            for word in filterfalse(str.isalnum, words)  # most words stop here, at C's speed
            if not any(map(str.isalnum, word))
        ]
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
        places: Sequence[int] = range(len(words))  # where a repeated n-gram can begin
        for n, bound in enumerate((self.top_2_gram, self.top_3_gram, self.top_4_gram), start=2):
            counts, places = repeated_ngrams(words, n, places)
            share = top_characters(words, n, counts) / len(text)
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
        for n, bound in enumerate(bounds, start=5):
            if not places:
                break
            _, places = repeated_ngrams(words, n, places)
            share = duplicated_characters(words, n, places) / len(text)
            if share > bound:
                return Dropped(f"duplicated_{n}_grams", share)
        return None


Words = tuple[str, ...]


def repeated_ngrams(
    words: Words, n: int, places: Sequence[int]
) -> tuple[Counter[Words], Sequence[int]]:
    """Counts of the n-grams that begin at `places`, and the places of those found more than once.

    A repeated n-gram begins where a repeated (n - 1)-gram does, so that only those need be looked
    at: in most texts few, and soon none.
    """
    if len(places) == len(words):
        ngrams = list(zip(*(words[i:] for i in range(n)), strict=False))
    else:
        ngrams = [words[i : i + n] for i in places if i + n <= len(words)]
    counts = Counter(ngrams)
    # All in C, as this is the time of the whole pipeline: the places where 1 < the n-gram's count.
    return counts, list(compress(places, map((1).__lt__, map(counts.__getitem__, ngrams))))


def top_characters(words: Words, n: int, counts: Counter[Words]) -> int:
    """Characters of the most frequent n-gram, with a space between words, times its count.

    Among equally frequent ones the first in the text stands for all. `counts` holds at least those
    that are repeated; where none is, that is the n-gram the text begins with.
    """
    most = max(counts.values(), default=0)
    if most > 1:
        best = next(ngram for ngram, count in counts.items() if count == most)
        return len(" ".join(best)) * most
    return len(" ".join(words[:n])) if len(words) >= n else 0


def duplicated_characters(words: Words, n: int, places: Sequence[int]) -> int:
    """Characters, without spaces, of n-grams seen before, in the order of the text.

    A hit is passed over whole, so that overlapping repetitions count once. `places` holds where
    the repeated ones begin.
    """
    seen: set[Words] = set()
    characters = end = 0  # `end`: the word behind the last hit
    for i in places:
        ngram = words[i : i + n]
        if i < end:
            continue
        if ngram in seen:
            characters += sum(map(len, ngram))
            end = i + n
        else:
            seen.add(ngram)
    return characters
