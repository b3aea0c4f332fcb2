"""The formula of `reference.py` by `native.cpp`, one pass over the activations each way.

For a residual stream in float32 on a CPU, whose sum comes in float32 or bfloat16 and whose norm
goes out in either. What arrives at `r`, which without a residual is `x`, is added to the gradient
in the same pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from llmkit.kernels.autocast import compute_dtype
from llmkit.kernels.native import call, library, named, numbers, threads

DTYPES = (torch.float32, torch.bfloat16)
FEWEST_ELEMENTS = 1 << 16  # below, the call costs what it saves
NUM_STRIPES = 64  # of rows in the backward pass, whatever the number of threads


def fits(x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor) -> bool:
    """Whether native code knows these shapes and dtypes, and gains by it."""
    if x.numel() < FEWEST_ELEMENTS:
        return False
    stream = x if residual is None else residual
    if x.shape != stream.shape or not x.shape[-1:] == weight.shape == bias.shape:
        return False
    if {stream.dtype, weight.dtype, bias.dtype} != {torch.float32}:
        return False
    return x.dtype in DTYPES and compute_dtype(stream.dtype, x.device) in DTYPES


def add_layer_norm(
    x: Tensor,  # (..., E)
    residual: Tensor | None,  # (..., E)
    weight: Tensor,  # (E,)
    bias: Tensor,  # (E,)
    eps: float,
) -> tuple[Tensor, Tensor]:
    """`r` and `y` (..., E); under autocast `y` is in its dtype, else in that of `r`."""
    y_dtype = compute_dtype(torch.float32, x.device)
    made: tuple[Tensor, Tensor] = _AddLayerNorm.apply(x, residual, weight, bias, eps, y_dtype)
    return made


class _AddLayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        y_dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
        other = None if residual is None else residual.contiguous()
        r = x if residual is None else torch.empty_like(x, dtype=torch.float32)
        y = torch.empty_like(x, dtype=y_dtype)
        statistics = torch.empty(2, x.numel() // x.shape[-1], dtype=torch.float32)
        function = _function("forward", x.dtype, y_dtype)
        sizes, shared = _sizes(x), threads(x.numel())
        call(function, x, other, weight, bias, r, y, statistics, sizes, float(eps), shared)
        ctx.save_for_backward(r, weight, statistics)
        ctx.x_dtype, ctx.adds = x.dtype, residual is not None
        ctx.set_materialize_grads(False)
        return r, y

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_r: Tensor | None, grad_y: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        r, weight, statistics = ctx.saved_tensors
        if grad_y is None:  # nobody used y
            dx = None if grad_r is None else grad_r.to(ctx.x_dtype)
            return dx, grad_r if ctx.adds else None, None, None, None, None
        grad_r = None if grad_r is None else grad_r.contiguous()
        dr = torch.empty_like(r)
        rounded = torch.empty_like(r, dtype=ctx.x_dtype) if ctx.x_dtype != r.dtype else None
        sizes, shared = _sizes(r), threads(r.numel())
        partial = r.new_empty(2, NUM_STRIPES, r.shape[-1])
        dweight, dbias = torch.empty_like(weight), torch.empty_like(weight)
        function = _function("backward", ctx.x_dtype, grad_y.dtype)
        made = (dr, rounded, partial, dweight, dbias)
        call(function, r, grad_y.contiguous(), weight, grad_r, statistics, *made, sizes, shared)
        dx = dr if rounded is None else rounded
        return dx, dr if ctx.adds else None, dweight, dbias, None, None


def _function(way: str, x_dtype: torch.dtype, y_dtype: torch.dtype) -> Any:
    return getattr(library("layer_norm"), f"{way}_{named(x_dtype)}_{named(y_dtype)}")


def _sizes(x: Tensor) -> Any:
    width = x.shape[-1]
    return numbers([x.numel() // width, width, NUM_STRIPES])
