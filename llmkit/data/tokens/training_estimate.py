"""What learning a vocabulary will take, told from a sample: memory, time, and whether counts fit.

`tokenizers` keeps every different piece of the text in memory, with the places of every pair. How
many pieces there are grows by Heaps' law, pieces = k * bytes^b; k and b come from the sample's half
and whole. The most frequent pair of neighbours is counted in 32 bits
(https://github.com/huggingface/tokenizers/issues/2058): a pair of tokens meets at most as often as
the two bytes at its seam, so the most frequent two bytes bound every count.

Memory and time are rough; the constants were measured with tokenizers 0.23.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SAMPLE_BYTES = 500_000
BYTES_PER_PIECE = 1_500  # of memory
BYTES_PER_ID = 600  # of memory
BASE_BYTES = 150_000_000
SECONDS_PER_PIECE = 2e-5  # of the merges, on one core
CUT_SHARE = 0.5  # of the time that cutting the sample takes in Python, spent when it is trained on
SAMPLE_DOUBT = 1.5  # how much more frequent than in the sample a pair of bytes may be
LARGEST_COUNT = 2**31 - 1
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Of training on `text_bytes` of text like the sample."""

    text_bytes: int
    pieces: int  # different ones
    memory_bytes: int
    seconds: float
    most_frequent_pair: float  # of all pairs of neighbouring bytes, as a share

    @property
    def countable_bytes(self) -> int:
        """Of text, beyond which the count of a pair could pass 2^31."""
        return int(LARGEST_COUNT / (SAMPLE_DOUBT * self.most_frequent_pair))

    def __str__(self) -> str:
        return (
            f"{self.text_bytes / 1e6:,.1f} MB of text, about {self.pieces:,} different pieces, "
            f"{self.memory_bytes / 1e9:,.1f} GB of memory and {self.seconds:,.0f} s"
        )


def estimate(texts: Sequence[str], text_bytes: int, pattern: str, vocab_size: int) -> Estimate:
    """Of learning `vocab_size` ids from `text_bytes` of text, of which `texts` are a sample.

    Args:
        pattern: the regular expression that cuts the text.
    """
    sizes = np.cumsum([len(text.encode()) for text in texts])
    sample_bytes = int(sizes[-1]) if len(sizes) else 0
    if sample_bytes == 0:
        return Estimate(
            text_bytes=text_bytes, pieces=0, memory_bytes=BASE_BYTES, seconds=0.0,
            most_frequent_pair=1.0,
        )  # fmt: skip
    half = int(np.searchsorted(sizes, sample_bytes / 2)) + 1
    started = time.process_time()
    first = different_pieces(texts[:half], pattern)
    whole = first | different_pieces(texts[half:], pattern)
    cut_seconds = time.process_time() - started
    growth = heaps_exponent(len(first), int(sizes[half - 1]), len(whole), sample_bytes)
    scale = max(text_bytes / sample_bytes, 1.0)
    pieces = int(len(whole) * scale**growth)
    cutting = CUT_SHARE * cut_seconds * scale / len(os.sched_getaffinity(0))
    return Estimate(
        text_bytes=text_bytes,
        pieces=pieces,
        memory_bytes=BASE_BYTES + BYTES_PER_PIECE * pieces + BYTES_PER_ID * vocab_size,
        seconds=cutting + SECONDS_PER_PIECE * pieces,
        most_frequent_pair=most_frequent_pair(texts),
    )


def different_pieces(texts: Sequence[str], pattern: str) -> set[str]:
    """The pieces that the pattern cuts the texts into, each once."""
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return {piece for text in texts for piece, _ in split.pre_tokenize_str(text)}


def heaps_exponent(few: int, few_bytes: int, many: int, many_bytes: int) -> float:
    """b of Heaps' law through two counts, within what texts have; 1 where there is but one."""
    if many_bytes <= few_bytes or few == 0:
        return 1.0
    return min(max(math.log(many / few) / math.log(many_bytes / few_bytes), 0.4), 1.0)


def most_frequent_pair(texts: Sequence[str]) -> float:
    """Share of the most frequent two neighbouring bytes among all, over the texts."""
    data = np.frombuffer("".join(texts).encode(), dtype=np.uint8).astype(np.uint16)
    if len(data) < 2:
        return 1.0
    return float(np.bincount(data[:-1] * np.uint16(256) + data[1:]).max() / (len(data) - 1))


def machine_memory() -> int:
    """Bytes of memory that this process may come to use: the machine's, or its container's."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.is_file() else "max"
    return physical if limit == "max" else min(physical, int(limit))
