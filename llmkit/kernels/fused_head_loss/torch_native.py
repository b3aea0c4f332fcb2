"""The formula of `reference.py`, a chunk of rows at a time, with the gradient made on the way.

Only (rows, V) logits live at once instead of (N, V) in up to four copies. Because the loss is a
scalar, its gradient is known up to a factor as soon as a chunk's logits are there:

    dz = (softmax(z) - onehot(t)) / d,  0 in rows that do not count
    dh = dz W,   dW = sum over chunks of dz^T h

so the backward pass only multiplies by the incoming factor and computes no logits again. The idea
is Liger-Kernel's fused linear cross-entropy (https://arxiv.org/abs/2410.10989, section 3.2).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Logits alive at once, in elements: 4 MB, about a core's own cache. Measured in float32 with width
# 256: benchmarks/README.md, "The size of a chunk".
CHUNK_ELEMENTS = 1 << 20
FEWEST_ROWS = 128  # below this the matrix products lose more than the cache gains


def chunk_rows(num_rows: int, vocab_size: int) -> int:
    """Rows of logits to hold at once, so that the chunks are of nearly equal size."""
    most = max(FEWEST_ROWS, CHUNK_ELEMENTS // vocab_size)
    num_chunks = max(1, -(-num_rows // most))
    return max(1, -(-num_rows // num_chunks))


def fused_head_loss(
    hidden: Tensor,  # (N, E)
    weight: Tensor,  # (V, E)
    targets: Tensor,  # (N,) int64, each in [0, V) or `ignore_index`
    num_items: Tensor | float | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """The loss as a float32 scalar; NaN where no row counts and `num_items` is not given.

    Matrix products run in autocast's dtype where it is on, else in that of `hidden`; soft-max and
    sums run in float32. The backward pass may run again (`retain_graph`), but has no derivative.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    counts = targets != ignore_index
    divisor = counts.sum() if num_items is None else num_items
    # Inside a Function gradients are always off, so what is wanted has to be asked out here.
    grad_on = torch.is_grad_enabled()
    wanted = (grad_on and hidden.requires_grad, grad_on and weight.requires_grad)
    return _FusedHeadLoss.apply(hidden, weight, targets, counts, divisor, dtype, wanted)


class _FusedHeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        counts: Tensor,  # (N,) bool: the rows that count
        divisor: Tensor | float,
        dtype: torch.dtype,
        wanted: tuple[bool, bool],
    ) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            loss, grad_hidden, grad_weight = _loss_and_gradients(
                hidden.to(dtype), weight.to(dtype), targets.where(counts, 0), counts, wanted
            )
        divisor = torch.as_tensor(divisor, device=loss.device)
        ctx.save_for_backward(grad_hidden, grad_weight, divisor)
        ctx.dtypes = hidden.dtype, weight.dtype
        return loss / divisor

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
        return (*gradients, None, None, None, None, None)


def _loss_and_gradients(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,  # (N,) int64 in [0, V), also where a row does not count
    counts: Tensor,
    wanted: tuple[bool, bool],
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Sum of the losses, and its gradients by `hidden` and `weight` where they are wanted."""
    rows = chunk_rows(hidden.shape[0], weight.shape[0])
    # One buffer for all chunks: freshly mapped pages cost more than the arithmetic on a CPU.
    buffer = hidden.new_empty(rows, weight.shape[0])
    loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
    grad_hidden = torch.empty_like(hidden) if wanted[0] else None
    grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
    for start in range(0, hidden.shape[0], rows):
        part = slice(start, start + rows)
        h = hidden[part]
        logits = torch.mm(h, weight.T, out=buffer[: h.shape[0]]).float()
        losses, grad_logits = _cross_entropy(logits, targets[part, None], counts[part, None])
        loss += losses.sum()
        grad_logits = grad_logits.to(hidden.dtype)
        if grad_hidden is not None:
            torch.mm(grad_logits, weight, out=grad_hidden[part])
        if grad_weight is not None and weight.dtype == torch.float32:
            grad_weight.addmm_(grad_logits.T, h)
        elif grad_weight is not None:
            grad_weight += grad_logits.T @ h
    return loss, grad_hidden, grad_weight


def _cross_entropy(logits: Tensor, targets: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Losses (n, 1) and their gradient (n, V), which overwrites `logits` (n, V), float32."""
    logits.sub_(logits.amax(dim=1, keepdim=True))
    picked = logits.gather(1, targets)  # after the shift, so that small losses keep their digits
    total = logits.exp_().sum(dim=1, keepdim=True)
    losses = (total.log() - picked).masked_fill_(~counts, 0.0)
    logits.div_(total).scatter_add_(1, targets, logits.new_full(targets.shape, -1.0))
    return losses, logits.masked_fill_(~counts, 0.0)
