"""Exact deduplication: of documents with the same normalised text, the first one stays.

Place it last: a document that a later step drops would take its duplicates with it. FineWeb too
deduplicates after its filters (https://arxiv.org/abs/2406.17557, section 3.4).
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from typing import ClassVar

from llmkit.data.documents import Document
from llmkit.data.filters import Dropped, Step


@dataclass(frozen=True, kw_only=True)
class ExactDedup(Step):
    """Drops a text that was there before, up to letter case, white space and Unicode form (NFC).

    Memory grows by about 200 bytes a kept document.
    """

    name: ClassVar[str] = "exact_dedup"

    ignore_case: bool = True

    def apply(self, document: Document, memory: dict[str, str]) -> Document | Dropped:
        key = self.digest(document.text)
        if key in memory:
            return Dropped("exact_duplicate", 1.0, memory[key])
        memory[key] = document.id
        return document

    def digest(self, text: str) -> str:
        """128 bits of BLAKE2b of the normalised text: two of 10^12 collide by chance at 1e-15."""
        normal = " ".join(unicodedata.normalize("NFC", text).split())
        if self.ignore_case:
            normal = normal.lower()
        return hashlib.blake2b(normal.encode(), digest_size=16).hexdigest()
