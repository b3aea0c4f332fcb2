"""The signatures of `MinHash`: words to hashes, hashes to n-grams, n-grams to smallest values.

Kept apart from the step's settings, which a check of a recipe reads without numpy.
"""

from __future__ import annotations

import hashlib
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmkit.data.curation.dedup import Signatures
from llmkit.data.overlap import hashes_of

if TYPE_CHECKING:
    from llmkit.data.curation.minhash import MinHash

NUMBER = re.compile(r"\d+")
BATCH_SHINGLES = 1 << 14  # hashed at once: 128 KB, which stay in a core's cache
MOST_WORDS = 1 << 17  # of which the hash is remembered
EMPTY = 0  # the hash that fills texts of fewer words than an n-gram has


def signatures(step: MinHash, texts: Sequence[str]) -> Signatures:
    """Of n texts: keys (num_buckets, 1, n), and 8 bits of each hash value as traces (n, hashes)."""
    num_hashes = step.num_buckets * step.hashes_per_bucket
    keys: NDArray[np.uint64] = np.zeros((step.num_buckets, 1, len(texts)), np.uint64)
    traces: NDArray[np.uint8] = np.zeros((len(texts), num_hashes), np.uint8)
    for documents, shingles, starts in _batches(step, texts):
        smallest = _smallest(step, shingles, starts)
        traces[documents] = (smallest >> np.uint64(24)).astype(np.uint8).T
        for bucket in range(step.num_buckets):
            first = bucket * step.hashes_per_bucket
            rows = smallest[first : first + step.hashes_per_bucket]
            key = hashes_of(rows.T.reshape(-1), len(rows))[:: len(rows)]
            keys[bucket, 0, documents] = np.maximum(key, np.uint64(1))  # 0 is for no words
    return Signatures(keys, traces)


def _batches(
    step: MinHash, texts: Sequence[str]
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
        hashes += [EMPTY] * (step.n_grams - len(hashes))
        documents.append(number)
        words += hashes
        lengths.append(len(hashes))
        if len(words) >= BATCH_SHINGLES:
            yield documents, *_shingles(step.n_grams, words, lengths)
            documents, words, lengths = [], [], []
    if documents:
        yield documents, *_shingles(step.n_grams, words, lengths)


def _shingles(
    n_grams: int, words: list[int], lengths: list[int]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of the n-grams of each text, none of which goes over its end."""
    windows = hashes_of(np.array(words, np.uint64), n_grams)
    counts = np.array(lengths) - n_grams + 1
    over = np.cumsum(lengths)[:-1, None] - np.arange(1, n_grams)
    return np.delete(windows, over.reshape(-1)), np.cumsum(counts) - counts


def _smallest(
    step: MinHash, shingles: NDArray[np.uint64], starts: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """(hashes, texts): the smallest value of `a * shingle + b` mod 2^64 over each text."""
    factors, offsets = hash_functions(step.num_buckets * step.hashes_per_bucket, step.seed)
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
