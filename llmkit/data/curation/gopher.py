"""Gopher's rules of quality and repetition, with FineWeb's readings of them.

Rae et al. 2021, https://arxiv.org/abs/2112.11446, appendix A.1.1 and table A1. Order of the rules,
strictness of the comparisons and what is divided by what follow datatrove at a649de7, with which
FineWeb is made:
https://github.com/huggingface/datatrove/tree/a649de79c14a550dc90f48a15c025f2dd3fd3b57/src/datatrove/pipeline/filters
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import filterfalse
from typing import ClassVar

from llmkit.data.curation.english_words import SENTENCE_ENDS
from llmkit.data.curation.filters import Dropped, Filter, count_words, duplicates, split_words

# Begun by a plain line end, for which `re` looks at memory's speed: 10 times that of "\n+".
PARAGRAPHS = re.compile("\n\n+")
LINES = re.compile("\n\n*")
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
        words, counts = split_words(text), count_words(text)
        return (
            self._check_words(words, counts)
            or self._check_symbols(text, len(words))
            or self._check_vocabulary(counts, len(words))
        )

    def _check_words(self, words: tuple[str, ...], counts: Counter[str]) -> Dropped | None:
        marked: Iterable[str] = filterfalse(str.isalnum, counts)  # most stop here, at C's speed
        if FULL_WIDTH_ONE in counts:
            marked = counts
        symbols = [word for word in marked if SYMBOLS.issuperset(word)]
        number = len(words) - sum(map(counts.__getitem__, symbols))
        if number < self.min_doc_words:
            return Dropped("gopher_short_doc", number)
        if number > self.max_doc_words:
            return Dropped("gopher_long_doc", number)
        characters = sum(map(len, words)) - sum(len(word) * counts[word] for word in symbols)
        mean = characters / max(number, 1)
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

    def _check_vocabulary(self, counts: Counter[str], number: int) -> Dropped | None:
        without = (
            counts[word]
            for word in filterfalse(str.isalpha, counts)
            if not any(map(str.isalpha, word))
        )
        alphabetic = (number - sum(without)) / number
        if alphabetic < self.min_alpha_words_ratio:
            return Dropped("gopher_below_alpha_threshold", alphabetic)
        found = len(STOP_WORDS & counts.keys())
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
        from llmkit.data.curation import ngrams  # which needs numpy

        words = split_words(text)
        most = ngrams.most_characters(count_words(text))
        for n, bound in enumerate((self.top_2_gram, self.top_3_gram, self.top_4_gram), start=2):
            if n * most / len(text) <= bound:
                continue
            share = ngrams.top_characters(words, n) / len(text)
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
        repeated = ngrams.RepeatedWords(words)
        for n, bound in enumerate(bounds, start=5):
            if repeated.most_duplicated_characters(n) / len(text) <= bound:
                continue
            share = repeated.duplicated_characters(n) / len(text)
            if share > bound:
                return Dropped(f"duplicated_{n}_grams", share)
        return None
