"""The formula of `reference.py` by torch's scaled dot-product attention, on any device."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def causal_attention(
    query: Tensor,  # (B, H, T, D)
    key: Tensor,  # (B, H or fewer, T, D)
    value: Tensor,  # as `key`
    scale: float,
) -> Tensor:
    """What each token takes from itself and those before it, (B, T, H, D)."""
    shared = query.shape[1] != key.shape[1]
    out = functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scale, enable_gqa=shared
    )
    return out.transpose(1, 2).contiguous()
