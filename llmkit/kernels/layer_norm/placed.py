"""`add_layer_norm` where it suits: Triton on a CUDA device, torch's own operations elsewhere."""

from __future__ import annotations

from torch import Tensor

from llmkit.kernels.layer_norm import torch_native
from llmkit.kernels.placement import takes_triton


def add_layer_norm(
    x: Tensor,  # (..., E)
    residual: Tensor | None,  # (..., E)
    weight: Tensor,  # (E,)
    bias: Tensor,  # (E,)
    eps: float,
) -> tuple[Tensor, Tensor]:
    """`r = x + residual` and `y`, its normalised form, (..., E); without `residual`, r is x.

    `r` has the dtype that torch promotes the two to. `y` has that of `r`; under autocast on CUDA it
    is in autocast's dtype at once, to which the product that follows would round it anyway.
    """
    if takes_triton(x):
        from llmkit.kernels.layer_norm import fused

        return fused.add_layer_norm(x, residual, weight, bias, eps)
    return torch_native.add_layer_norm(x, residual, weight, bias, eps)
