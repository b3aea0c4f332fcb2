"""The formula of `reference.py` by Triton kernels, one pass over the activations each way.

Forward, a program takes a row, adds, normalises, and keeps mean and 1 / deviation. Backward, with
n = (r - mean) / deviation and g = dy * weight,

    dr = (g - mean g - n mean(g n)) / deviation + what arrives at r itself
    dweight = sum over rows of dy n,    dbias = sum over rows of dy

A program of the backward pass takes a stripe of rows and adds up its own dweight and dbias, which
are then summed over the stripes. Arithmetic is float32. The plan of two steps is that of the
Triton tutorial on layer norm (https://triton-lang.org/main/getting-started/tutorials/05-layer-norm.html).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from llmkit.kernels.autocast import compute_dtype

NUM_STRIPES = 528  # four a multiprocessor of an H100; not measured yet


def add_layer_norm(
    x: Tensor,  # (..., E)
    residual: Tensor | None,  # (..., E)
    weight: Tensor,  # (E,)
    bias: Tensor,  # (E,)
    eps: float,
) -> tuple[Tensor, Tensor]:
    """`r` and `y` (..., E); under autocast `y` is in its dtype, else in that of `r`."""
    r_dtype = x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
    y_dtype = compute_dtype(r_dtype, x.device)
    r, y = _AddLayerNorm.apply(x, residual, weight, bias, eps, r_dtype, y_dtype)
    return (x if residual is None else r), y


class _AddLayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        r_dtype: torch.dtype,
        y_dtype: torch.dtype,
    ) -> tuple[Tensor | None, Tensor]:
        shape, width = x.shape, x.shape[-1]
        x = x.reshape(-1, width).contiguous()
        adds = residual is not None
        other = residual.reshape(-1, width).contiguous() if residual is not None else x
        r = torch.empty_like(x, dtype=r_dtype) if adds else x
        y = torch.empty_like(x, dtype=y_dtype)
        statistics = torch.empty(2, x.shape[0], dtype=torch.float32, device=x.device)
        block = triton.next_power_of_2(width)
        _forward_kernel[(x.shape[0],)](
            x, other, weight, bias, r, y, statistics, x.shape[0], width, eps,
            ADDS=adds, BLOCK=block, num_warps=_num_warps(block),
        )  # fmt: skip
        ctx.save_for_backward(r, weight, statistics)
        ctx.dtypes = x.dtype, residual.dtype if residual is not None else None
        ctx.set_materialize_grads(False)
        return r.view(shape) if adds else None, y.view(shape)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_r: Tensor | None, grad_y: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        r, weight, statistics = ctx.saved_tensors
        of_x, of_residual = ctx.dtypes
        if grad_y is None:  # nobody used y
            dx = None if grad_r is None else grad_r.to(of_x)
            dresidual = None if grad_r is None or of_residual is None else grad_r.to(of_residual)
            return dx, dresidual, None, None, None, None, None
        dr, dweight, dbias = _backward(r, weight, statistics, grad_r, grad_y)
        dr = dr.view(grad_y.shape)
        dresidual = None if of_residual is None else dr.to(of_residual)
        return dr.to(of_x), dresidual, dweight, dbias, None, None, None


def _backward(
    r: Tensor, weight: Tensor, statistics: Tensor, grad_r: Tensor | None, grad_y: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """dr (N, E) in the dtype of `r`; dweight and dbias (E,) in that of `weight`."""
    num_rows, width = r.shape
    block = triton.next_power_of_2(width)
    stripes = min(NUM_STRIPES, num_rows)
    dr = torch.empty_like(r)
    partial = torch.empty(2, stripes, width, dtype=torch.float32, device=r.device)
    grad_y = grad_y.reshape(-1, width).contiguous()
    other = grad_y if grad_r is None else grad_r.reshape(-1, width).contiguous()
    _backward_kernel[(stripes,)](
        r, weight, statistics, other, grad_y, dr, partial, num_rows, width, stripes,
        ADDS=grad_r is not None, BLOCK=block, num_warps=_num_warps(block),
    )  # fmt: skip
    dweight, dbias = partial.sum(dim=1).to(weight.dtype)
    return dr, dweight, dbias


def _num_warps(block: int) -> int:
    return min(8, max(1, block // 256))


@triton.jit
def _forward_kernel(
    x, residual, weight, bias, r, y, statistics, num_rows, width, eps,
    ADDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    here = row * width + columns
    value = tl.load(x + here, mask=inside, other=0.0).to(tl.float32)
    if ADDS:
        value += tl.load(residual + here, mask=inside, other=0.0).to(tl.float32)
        rounded = value.to(r.dtype.element_ty)
        tl.store(r + here, rounded, mask=inside)
        value = rounded.to(tl.float32)
    mean = tl.sum(value, axis=0) / width
    centred = tl.where(inside, value - mean, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=0) / width + eps)
    w = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + here, (centred * scale * w + b).to(y.dtype.element_ty), mask=inside)
    tl.store(statistics + row, mean)
    tl.store(statistics + num_rows + row, scale)


@triton.jit
def _backward_kernel(
    r, weight, statistics, grad_r, grad_y, dr, partial, num_rows, width, num_stripes,
    ADDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    stripe = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    w = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    dweight = tl.zeros((BLOCK,), tl.float32)
    dbias = tl.zeros((BLOCK,), tl.float32)
    for number in range(stripe, num_rows, num_stripes):
        row = tl.cast(number, tl.int64)
        here = row * width + columns
        mean = tl.load(statistics + row)
        scale = tl.load(statistics + num_rows + row)
        value = tl.load(r + here, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(grad_y + here, mask=inside, other=0.0).to(tl.float32)
        n = tl.where(inside, (value - mean) * scale, 0.0)
        g = dy * w
        gradient = scale * (g - tl.sum(g, axis=0) / width - n * (tl.sum(g * n, axis=0) / width))
        if ADDS:
            gradient += tl.load(grad_r + here, mask=inside, other=0.0).to(tl.float32)
        tl.store(dr + here, gradient.to(dr.dtype.element_ty), mask=inside)
        dweight += dy * n
        dbias += dy
    tl.store(partial + stripe * width + columns, dweight, mask=inside)
    tl.store(partial + (num_stripes + stripe) * width + columns, dbias, mask=inside)
