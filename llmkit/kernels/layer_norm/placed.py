"""`add_layer_norm` where it suits: Triton on a CUDA device, native code on a CPU, else torch's."""

from __future__ import annotations

from torch import Tensor

from llmkit.kernels.layer_norm import native, torch_native
from llmkit.kernels.placement import takes_native, takes_triton


def add_layer_norm(
    x: Tensor,  # (..., E)
    residual: Tensor | None,  # (..., E)
    weight: Tensor,  # (E,)
    bias: Tensor,  # (E,)
    eps: float,
) -> tuple[Tensor, Tensor]:
    """`r = x + residual` and `y`, its normalised form, (..., E); without `residual`, r is x.

    `r` has the dtype that torch promotes the two to. `y` has that of `r`; under
    autocast it is, but for torch's own form, in autocast's dtype at once, to which the product that
    follows would round it anyway.
    """
    if takes_triton(x):
        from llmkit.kernels.layer_norm import fused

        return fused.add_layer_norm(x, residual, weight, bias, eps)
    given = (x, weight, bias) if residual is None else (x, residual, weight, bias)
    if native.fits(x, residual, weight, bias) and takes_native("layer_norm", *given):
        return native.add_layer_norm(x, residual, weight, bias, eps)
    return torch_native.add_layer_norm(x, residual, weight, bias, eps)
