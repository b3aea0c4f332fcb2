"""The formula of `reference.py` by torch's own sum and layer norm, on any device."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def add_layer_norm(
    x: Tensor,  # (..., E)
    residual: Tensor | None,  # (..., E)
    weight: Tensor,  # (E,)
    bias: Tensor,  # (E,)
    eps: float,
) -> tuple[Tensor, Tensor]:
    """`r` and `y` (..., E), as stock GPT-2 computes them, autocast's dtypes included."""
    r = x if residual is None else x + residual
    return r, functional.layer_norm(r, (r.shape[-1],), weight, bias, eps)
