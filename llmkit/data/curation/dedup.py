"""What a deduplicating step is, and exact deduplication: of the same texts the first one stays.

Such a step compares all documents with all, so it cuts a curation in two: every document before it
gets a signature, then the signatures are clustered (`llmkit/data/curation/clusters.py`), then the
documents that are left go on. Place it after the filters: a document that a later step drops would
take its duplicates with it. FineWeb too deduplicates after its filters
(https://arxiv.org/abs/2406.17557, section 3.4), and masks personal data after that.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from llmkit.data.curation.filters import Step

if TYPE_CHECKING:  # a check of a recipe reads this module, and needs no numpy
    import numpy as np
    from numpy.typing import NDArray


class Signatures(NamedTuple):
    """What is kept of n texts to tell duplicates by.

    `keys` (bands, words, n) uint64: two texts are duplicates when all words of one band agree; a
    text whose first word is 0 has no duplicates. `traces` (n, any) uint8: to say how alike two are.
    """

    keys: NDArray[np.uint64]
    traces: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Dedup(Step):
    """Base of the steps that compare each document with all the others.

    Of each cluster of duplicates the first document in input order is kept.
    """

    reason: ClassVar[str] = ""  # under which its duplicates are counted

    def signatures(self, texts: Sequence[str]) -> Signatures:
        """Of each text by itself: the same whatever else is in `texts`."""
        raise TypeError(f"{type(self).__name__} has no signatures")

    def similarities(
        self, ones: NDArray[np.uint8], others: NDArray[np.uint8]
    ) -> NDArray[np.float64]:
        """How alike the texts of each pair are, 0 to 1, by their rows of `traces`: (n,)."""
        import numpy as np

        return np.ones(len(ones))


@dataclass(frozen=True, kw_only=True)
class ExactDedup(Dedup):
    """Drops a text that was there before, up to letter case, white space and Unicode form (NFC)."""

    name: ClassVar[str] = "exact_dedup"
    reason: ClassVar[str] = "exact_duplicate"

    ignore_case: bool = True

    def signatures(self, texts: Sequence[str]) -> Signatures:
        import numpy as np

        digests = b"".join(map(self.digest, texts))
        keys = np.frombuffer(digests, "<u8").reshape(-1, 2).T[None]
        return Signatures(keys.astype(np.uint64), np.zeros((len(texts), 0), np.uint8))

    def digest(self, text: str) -> bytes:
        """128 bits of BLAKE2b of the normalised text: two of 10^12 collide by chance at 1e-15."""
        normal = " ".join(unicodedata.normalize("NFC", text).split())
        if self.ignore_case:
            normal = normal.lower()
        return hashlib.blake2b(normal.encode(), digest_size=16).digest()
