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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from llmkit.data.curation.dedup import Dedup, Signatures

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
        from llmkit.data.curation.minhash_signatures import signatures

        return signatures(self, texts)

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
