"""The formula of `reference.py` by `native.cpp`, one pass over memory each way; `x` alone is kept.

For float32 and bfloat16 on a CPU. A derivative of the gradient is torch's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from llmkit.kernels.native import call, library, named, threads

DTYPES = (torch.float32, torch.bfloat16)
FEWEST_ELEMENTS = 1 << 13  # below, as for a token while generating, the call costs what it saves


def fits(x: Tensor) -> bool:
    """Whether native code knows this dtype and gains by it."""
    return x.dtype in DTYPES and x.numel() >= FEWEST_ELEMENTS


def gelu(x: Tensor) -> Tensor:
    """GELU of every element; `x` and the result have one shape, any, and one dtype of DTYPES."""
    y: Tensor = _Gelu.apply(x)
    return y


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        x = x.contiguous()
        y = torch.empty_like(x)
        _call("forward", x, y)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            second: Tensor = torch.ops.aten.gelu_backward(grad_y, x, approximate="tanh")
            return second
        x = x.contiguous()
        grad_x = torch.empty_like(x)
        _call("backward", x, grad_y.contiguous(), grad_x)
        return grad_x


def _call(way: str, x: Tensor, *others: Tensor) -> None:
    function = getattr(library("gelu"), f"gelu_{way}_{named(x.dtype)}")
    call(function, x, *others, x.numel(), threads(x.numel()))
