"""Near-duplicate removal by MinHash, with FineWeb's settings.

The similarity of two texts is that of their sets of word 5-grams, s = |A and B| / |A or B|
(Jaccard's). Each of 14 x 8 hash functions keeps its smallest value over the set, and two texts
agree in it with probability s (Broder 1997, https://doi.org/10.1109/SEQUEN.1997.666900). They count
as duplicates when all 8 values of one of the 14 buckets agree:

    P(s) = 1 - (1 - s^8)^14         0.56, 0.77, 0.92, 0.99 at s = 0.70, 0.75, 0.80, 0.85

with its steepest part at (1/14)^(1/8) = 0.72 (Penedo et al. 2024,
https://arxiv.org/abs/2406.17557, section 3.4). datatrove stores all 112 values of 64 bits, 952
bytes a document; here a bucket's 8 values are hashed into one of 64 bits, which for n documents
makes 14 n^2 / 2^65 pairs too many (0.004 for 10^8), and 8 bits of each value stay to estimate the
similarity with: 224 bytes a document.
"""

from __future__ import annotations

import hashlib
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from llmkit.data.dedup import Dedup, Signatures
from llmkit.data.overlap import hashes_of

NUMBER = re.compile(r"\d+")
BATCH_SHINGLES = 1 << 14  # hashed at once: 128 KB, which stay in a core's cache
MOST_WORDS = 1 << 17  # of which the hash is remembered
EMPTY = 0  # the hash that fills texts of fewer words than an n-gram has
TRACE_VALUES = 256  # of the 8 bits that are kept of a hash value


@dataclass(frozen=True, kw_only=True)
class MinHash(Dedup):
    """Of texts that are alike, and those like them in turn, the first one stays.

    Words are lower-case, numbers are 0, punctuation, symbols and accents are off. A text of fewer
    words than an n-gram has counts as one n-gram, one without words is kept. Not for scripts that
    write no spaces.
    """

    name: ClassVar[str] = "minhash"
    reason: ClassVar[str] = "near_duplicate"

    n_grams: int = 5  # words
    num_buckets: int = 14
    hashes_per_bucket: int = 8
    seed: int = 1  # of the hash functions

    def __post_init__(self) -> None:
        for key in ("n_grams", "num_buckets", "hashes_per_bucket"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: {getattr(self, key)} is not positive")

    @property
    def bands(self) -> int:
        return self.num_buckets

    def probability(self, similarity: float) -> float:
        """That two texts of this similarity count as duplicates."""
        return float(1 - (1 - similarity**self.hashes_per_bucket) ** self.num_buckets)

    def signatures(self, texts: Sequence[str]) -> Signatures:
        num_hashes = self.num_buckets * self.hashes_per_bucket
        keys: NDArray[np.uint64] = np.zeros((self.num_buckets, 1, len(texts)), np.uint64)
        traces: NDArray[np.uint8] = np.zeros((len(texts), num_hashes), np.uint8)
        for documents, shingles, starts in self._batches(texts):
            smallest = self._smallest(shingles, starts)
            traces[documents] = (smallest >> np.uint64(24)).astype(np.uint8).T
            for bucket in range(self.num_buckets):
                first = bucket * self.hashes_per_bucket
                rows = smallest[first : first + self.hashes_per_bucket]
                key = hashes_of(rows.T.reshape(-1), len(rows))[:: len(rows)]
                keys[bucket, 0, documents] = np.maximum(key, np.uint64(1))  # 0 is for no words
        return Signatures(keys, traces)

    def similarities(
        self, ones: NDArray[np.uint8], others: NDArray[np.uint8]
    ) -> NDArray[np.float64]:
        """Estimated from the kept bits, of which 1 in 256 agrees by chance.

        Li and Koenig 2010, https://arxiv.org/abs/0910.3349, for sets small beside all n-grams.
        """
        chance = 1 / TRACE_VALUES
        agree = (ones == others).mean(axis=1)
        alike: NDArray[np.float64] = ((agree - chance) / (1 - chance)).clip(min=0).round(3)
        return alike

    def _batches(
        self, texts: Sequence[str]
    ) -> Iterator[tuple[list[int], NDArray[np.uint64], NDArray[np.int64]]]:
        """Numbers of the texts, the hashes of their n-grams one after the other, and where each
        text's begin."""
        documents: list[int] = []
        words: list[int] = []
        lengths: list[int] = []
        for number, text in enumerate(texts):
            hashes = word_hashes(normalised(text).split())
            if not hashes:
                continue
            hashes += [EMPTY] * (self.n_grams - len(hashes))
            documents.append(number)
            words += hashes
            lengths.append(len(hashes))
            if len(words) >= BATCH_SHINGLES:
                yield documents, *self._shingles(words, lengths)
                documents, words, lengths = [], [], []
        if documents:
            yield documents, *self._shingles(words, lengths)

    def _shingles(
        self, words: list[int], lengths: list[int]
    ) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Hashes of the n-grams of each text, none of which goes over its end."""
        windows = hashes_of(np.array(words, np.uint64), self.n_grams)
        counts = np.array(lengths) - self.n_grams + 1
        over = np.cumsum(lengths)[:-1, None] - np.arange(1, self.n_grams)
        return np.delete(windows, over.reshape(-1)), np.cumsum(counts) - counts

    def _smallest(
        self, shingles: NDArray[np.uint64], starts: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        """(hashes, texts): the smallest value of `a * shingle + b` mod 2^64 over each text."""
        factors, offsets = hash_functions(self.num_buckets * self.hashes_per_bucket, self.seed)
        found: NDArray[np.uint64] = np.empty((len(factors), len(starts)), np.uint64)
        values = np.empty_like(shingles)
        for row, factor, offset in zip(found, factors, offsets, strict=True):
            np.multiply(shingles, factor, out=values)
            np.add(values, offset, out=values)
            np.minimum.reduceat(values, starts, out=row)
        return found


@lru_cache(maxsize=8)
def hash_functions(number: int, seed: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Factors (odd, so that the function is one to one) and offsets, the same on every machine."""
    generator = np.random.Generator(np.random.PCG64(seed))
    drawn: NDArray[Any] = generator.integers(0, 2**64, (2, number), np.uint64, endpoint=False)
    return drawn[0] | np.uint64(1), drawn[1]


@lru_cache(maxsize=1)
def _unwritten() -> dict[int, None]:
    """Punctuation, symbols and accents, up to U+FFFF, which `str.translate` then leaves out."""
    kinds = ((code, unicodedata.category(chr(code))) for code in range(min(sys.maxunicode, 0xFFFF)))
    return {code: None for code, kind in kinds if kind[0] in "PS" or kind == "Mn"}


def normalised(text: str) -> str:
    """`"It’s 3.5 km to Café Zoë!"` -> `"its 0 km to cafe zoe"`, up to white space."""
    text = text.lower()
    if not text.isascii():
        text = unicodedata.normalize("NFD", text)
    return NUMBER.sub("0", text.translate(_unwritten()))


_hashes: dict[str, int] = {}  # of words: a cache, which decides nothing but the time


def word_hashes(words: Sequence[str]) -> list[int]:
    """64 bits of BLAKE2b of each word."""
    if len(_hashes) > MOST_WORDS:
        _hashes.clear()
    try:
        return [_hashes[word] for word in words]
    except KeyError:
        for word in words:
            if word not in _hashes:
                digest = hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8)
                _hashes[word] = int.from_bytes(digest.digest(), "little")
        return [_hashes[word] for word in words]
