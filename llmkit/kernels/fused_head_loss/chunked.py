"""The formula of `reference.py`, a chunk of rows at a time, with the gradient made on the way.

Only (rows, V) logits live at once instead of (N, V) in up to four copies. Because the loss is a
scalar, its gradient is known up to a factor as soon as a chunk's logits are there:

    dz = softmax(z) - onehot(t),  0 in rows that do not count
    dh = dz W / d,   dW = sum over chunks of dz^T h / d

so the backward pass only multiplies by the incoming factor and computes no logits again. The idea
is Liger-Kernel's fused linear cross-entropy (https://arxiv.org/abs/2410.10989, section 3.2). What
happens to a chunk of logits is in `torch_native.py`; in native code, `native.cpp`; and by a Triton
kernel, in `fused.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from llmkit.kernels.autocast import compute_dtype, without_autocast
from llmkit.kernels.fused_head_loss import native, torch_native
from llmkit.kernels.head_chunks import add_product, chunks, padded
from llmkit.kernels.placement import takes_native, takes_triton

# (logits (n, P), targets (n,), vocab_size, ignore_index) -> losses (n,) float32; dz stands in the
# place of the logits afterwards, in their dtype, 0 in the columns from vocab_size on.
CrossEntropy = Callable[[Tensor, Tensor, int, int], Tensor]


@torch.compiler.disable
def fused_head_loss(
    hidden: Tensor,  # (N, E)
    weight: Tensor,  # (V, E)
    targets: Tensor,  # (N,) int64, each in [0, V) or `ignore_index`
    num_items: Tensor | float | None = None,
    ignore_index: int = -100,
    *,
    cross_entropy: CrossEntropy | None = None,
) -> Tensor:
    """The loss as a float32 scalar; NaN where no row counts and `num_items` is not given.

    Matrix products run in autocast's dtype where it is on, else in that of `hidden`; soft-max and
    sums run in float32. The backward pass may run again (`retain_graph`), but has no derivative.
    Nothing here waits for the device.

    Args:
        cross_entropy: of a chunk of logits; by default the form that suits the device.
    """
    divisor = (targets != ignore_index).sum() if num_items is None else num_items
    # Inside a Function gradients are always off, so what is wanted has to be asked out here.
    grad_on = torch.is_grad_enabled()
    wanted = (grad_on and hidden.requires_grad, grad_on and weight.requires_grad)
    dtype = compute_dtype(hidden.dtype, hidden.device)
    step = cross_entropy or _cross_entropy_for(hidden, weight, targets, dtype)
    loss: Tensor = _FusedHeadLoss.apply(
        hidden, weight, targets, divisor, ignore_index, dtype, wanted, step
    )
    return loss


def _cross_entropy_for(
    hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype
) -> CrossEntropy:
    if takes_triton(hidden):
        from llmkit.kernels.fused_head_loss import fused

        return fused.cross_entropy_
    if dtype in native.DTYPES and takes_native("fused_head_loss", hidden, weight, targets):
        return native.cross_entropy_
    return torch_native.cross_entropy_


class _FusedHeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        divisor: Tensor | float,
        ignore_index: int,
        dtype: torch.dtype,
        wanted: tuple[bool, bool],
        cross_entropy: CrossEntropy,
    ) -> Tensor:
        with without_autocast(hidden.device):
            loss, grad_hidden, grad_weight = _loss_and_gradients(
                hidden.to(dtype), weight, targets, ignore_index, wanted, cross_entropy
            )
        if not isinstance(divisor, Tensor):  # filled on the device: a copy would wait for it
            divisor = torch.full((), divisor, dtype=torch.float32, device=loss.device)
        ctx.save_for_backward(grad_hidden, grad_weight, divisor.to(loss.device))
        ctx.dtypes = hidden.dtype, weight.dtype
        return loss / divisor.to(loss.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        *unscaled, divisor = ctx.saved_tensors
        # A batch in which nothing counts has a NaN loss but, as in torch, gradients of zero.
        factor = torch.where(divisor == 0, 0.0, grad_loss / divisor)
        gradients = [
            None if gradient is None else (gradient * factor).to(dtype)
            for gradient, dtype in zip(unscaled, ctx.dtypes, strict=True)
        ]
        return (*gradients, None, None, None, None, None, None)


def _loss_and_gradients(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    ignore_index: int,
    wanted: tuple[bool, bool],
    cross_entropy: CrossEntropy,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Sum of the losses, and its gradients by `hidden` and `weight` where they are wanted."""
    vocab_size = weight.shape[0]
    weight = padded(weight, hidden.dtype)
    loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
    grad_hidden = torch.empty_like(hidden) if wanted[0] else None
    grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
    for part, logits in chunks(hidden, weight):
        loss += cross_entropy(logits, targets[part], vocab_size, ignore_index).sum()
        if grad_hidden is not None:
            torch.mm(logits, weight, out=grad_hidden[part])
        if grad_weight is not None:
            add_product(grad_weight, logits.T, hidden[part])
    return loss, grad_hidden, None if grad_weight is None else grad_weight[:vocab_size]
