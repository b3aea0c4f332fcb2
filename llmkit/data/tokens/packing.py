"""Documents packed into one window, and how attention is told where each begins and ends.

Each document begins at the token behind an end-of-text; the first of a window begins with it. For
kernels of variable length (flash-attention's `flash_attn_varlen_func`,
https://github.com/Dao-AILab/flash-attention) a batch is one row of tokens with the places at which
documents begin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def position_ids(ids: NDArray[np.int64], eos: int) -> NDArray[np.int64]:
    """Each token's place in what the window has of its document: (B, L) -> (B, L)."""
    at = np.arange(ids.shape[1], dtype=np.int64)
    begins = np.zeros(ids.shape, dtype=np.int64)
    begins[:, 1:] = np.where(ids[:, :-1] == eos, at[1:], 0)
    return at - np.maximum.accumulate(begins, axis=1)


def boundaries(positions: NDArray[np.int64]) -> tuple[NDArray[np.int32], int]:
    """Where documents begin in the batch laid out as one row, its end behind, and the longest.

    Args:
        positions: (B, L), as `position_ids` gives them.

    Returns:
        `cu_seqlens` (documents + 1,) int32, and `max_seqlen`.
    """
    begins = np.flatnonzero(positions.reshape(-1) == 0)
    bounds: NDArray[np.int32] = np.append(begins, positions.size).astype(np.int32)
    return bounds, int(np.diff(bounds).max(initial=0))
