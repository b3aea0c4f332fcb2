"""The formula of `reference.py` by native code (`native.cpp`, `backward.cpp`), in bfloat16.

The tensors are read where they lie, also as transposed views of one buffer, and the result is
written as its reader wants it. Kept for the backward pass: the arguments, the result, and the
logarithm of each row's sum.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from llmkit.kernels.autocast import compute_dtype
from llmkit.kernels.native import call, library, numbers, threads

FEWEST_TOKENS = 16  # the columns that are computed at once
WIDTHS = range(16, 257, 16)  # D
LOG2_E = 1 / math.log(2)  # scores are held in units of log 2, since 2^x is what is cheap


def fits(query: Tensor, key: Tensor, value: Tensor, scale: float = 1.0) -> bool:
    """Whether native code knows these shapes and dtypes (others than bfloat16 under autocast)."""
    if not scale > 0:  # the largest score is looked for before it is scaled
        return False
    if query.dim() != 4 or key.shape != value.shape or query.shape[2] < FEWEST_TOKENS:
        return False
    batch, heads, length, width = query.shape
    if key.dim() != 4 or key.shape[0] != batch or key.shape[2:] != (length, width):
        return False
    if heads % max(1, key.shape[1]) or width not in WIDTHS:
        return False
    given = (query, key, value)
    return all(compute_dtype(x.dtype, x.device) == torch.bfloat16 for x in given)


def causal_attention(
    query: Tensor,  # (B, H, T, D)
    key: Tensor,  # (B, H or fewer, T, D)
    value: Tensor,  # as `key`
    scale: float,
) -> Tensor:
    """What each token takes from itself and those before it, (B, T, H, D) in bfloat16."""
    given = (x.to(torch.bfloat16) for x in (query, key, value))
    out: Tensor = _CausalAttention.apply(*given, scale)
    return out


class _CausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        query, key, value = map(_in_rows, (query, key, value))
        out = _like(query)
        sums = torch.empty(query.shape[:3], dtype=torch.float32)
        function = library("attention").attention_forward
        views = _views(query, key, value, out)
        call(function, views, _sizes(query, key), scale * LOG2_E, sums, threads(query.numel()))
        out = out.transpose(1, 2)
        ctx.save_for_backward(query, key, value, out, sums)
        ctx.scale = scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, sums = ctx.saved_tensors
        given = (query, key, value, out.transpose(1, 2), _in_rows(grad_out.transpose(1, 2)))
        gradients = tuple(map(_like, (query, key, value)))
        function = library("attention").attention_backward
        scales = (ctx.scale * LOG2_E, ctx.scale)
        sizes, shared = _sizes(query, key), threads(query.numel())
        call(function, _views(*given, *gradients), sizes, *scales, sums, shared)
        return (*gradients, None)


def _in_rows(x: Tensor) -> Tensor:
    """`x` with the elements of its last dimension side by side: all that is asked of it."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _like(x: Tensor) -> Tensor:
    """A fresh (B, H, T, D) tensor that lies as (B, T, H, D), as the layer around wants it."""
    batch, heads, length, width = x.shape
    return x.new_empty(batch, length, heads, width).transpose(1, 2)


def _views(*tensors: Tensor) -> Any:
    """Addresses and strides, as `Views` in attention.h takes them."""
    return numbers([n for x in tensors for n in (x.data_ptr(), *x.stride()[:3])])


def _sizes(query: Tensor, key: Tensor) -> Any:
    batch, heads, length, width = query.shape
    return numbers([batch, heads, key.shape[1], length, width])
