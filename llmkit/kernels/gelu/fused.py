"""GELU's tanh form by Triton kernels, one pass over memory each way; `x` alone is kept.

    u = sqrt(2 / pi) (x + 0.044715 x^3),    s = sigmoid(2 u),    y = x s
    dy/dx = s + x s (1 - s) 2 sqrt(2 / pi) (1 + 3 * 0.044715 x^2)

since (1 + tanh u) / 2 = sigmoid(2 u). Arithmetic is float32.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 1024


def gelu(x: Tensor) -> Tensor:
    """GELU of every element; `x` and the result have one shape, any, and one floating dtype."""
    y: Tensor = _Gelu.apply(x)
    return y


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        y = torch.empty_like(x)
        _forward_kernel[(triton.cdiv(x.numel(), BLOCK),)](x, y, x.numel(), BLOCK=BLOCK)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        grid = (triton.cdiv(x.numel(), BLOCK),)
        _backward_kernel[grid](x, grad_y.contiguous(), grad_x, x.numel(), BLOCK=BLOCK)
        return grad_x


@triton.jit
def _gate(x):
    """sigmoid(2 u) and the derivative of 2 u."""
    inner = 1.5957691216057308 * (x + 0.044715 * x * x * x)
    slope = 1.5957691216057308 * (1.0 + 0.134145 * x * x)
    return tl.sigmoid(tl.maximum(inner, -60.0)), slope  # further out, exp overflows


@triton.jit
def _forward_kernel(x_ptr, y_ptr, num_elements, BLOCK: tl.constexpr):
    here = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = here < num_elements
    x = tl.load(x_ptr + here, mask=inside, other=0.0).to(tl.float32)
    gate, _ = _gate(x)
    tl.store(y_ptr + here, (x * gate).to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _backward_kernel(x_ptr, grad_y_ptr, grad_x_ptr, num_elements, BLOCK: tl.constexpr):
    here = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = here < num_elements
    x = tl.load(x_ptr + here, mask=inside, other=0.0).to(tl.float32)
    grad_y = tl.load(grad_y_ptr + here, mask=inside, other=0.0).to(tl.float32)
    gate, slope = _gate(x)
    derivative = gate + x * gate * (1.0 - gate) * slope
    tl.store(grad_x_ptr + here, (grad_y * derivative).to(grad_x_ptr.dtype.element_ty), mask=inside)
