"""The formula of layer normalisation after a residual sum. E = width.

    r = x + residual
    y = (r - mean r) / sqrt(var r + eps) * weight + bias      over the last dimension

var is the mean of squares of r - mean r (https://arxiv.org/abs/1607.06450, equation 4).
"""

from __future__ import annotations

from torch import Tensor


def add_layer_norm(
    x: Tensor,  # (..., E)
    residual: Tensor | None,  # (..., E)
    weight: Tensor,  # (E,)
    bias: Tensor,  # (E,)
    eps: float,
) -> tuple[Tensor, Tensor]:
    """`r` and `y` (..., E); without `residual`, r is x."""
    r = x if residual is None else x + residual
    centred = r - r.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return r, centred / (variance + eps).sqrt() * weight + bias
