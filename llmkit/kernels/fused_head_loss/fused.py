"""Cross-entropy of a chunk of logits and its gradient in place by one Triton kernel.

A program takes a row. It reads the row once for maximum and sum of exponentials by the online
soft-max (https://arxiv.org/abs/1805.02867), and once more, out of the cache, to overwrite it with

    dz_v = exp(z_v - m) / s - [v = t],    loss = log s - (z_t - m)

Arithmetic is float32; logits and gradient have the dtype of the matrix products. A target that is
not in the vocabulary makes the loss NaN: nothing outside the row is read.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST_BLOCK = 4096  # columns at once: 13 rounds for GPT-2's vocabulary; not measured yet


def cross_entropy_(
    logits: Tensor,  # (n, P), rows contiguous, overwritten with the gradient
    targets: Tensor,  # (n,) int64
    vocab_size: int,
    ignore_index: int,
) -> Tensor:
    """Losses (n,) in float32; `logits` becomes softmax - onehot, 0 in rows that do not count."""
    num_rows, num_columns = logits.shape
    losses = torch.empty(num_rows, dtype=torch.float32, device=logits.device)
    block = min(LARGEST_BLOCK, triton.next_power_of_2(num_columns))
    _cross_entropy_kernel[(num_rows,)](
        logits,
        logits.stride(0),
        targets.contiguous(),
        losses,
        vocab_size,
        num_columns,
        ignore_index,
        BLOCK=block,
        num_warps=min(8, max(1, block // 256)),
    )
    return losses


@triton.jit
def _cross_entropy_kernel(
    logits,
    row_stride,
    targets,
    losses,
    vocab_size,
    num_columns,
    ignore_index,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    z_row = logits + row * row_stride
    target = tl.load(targets + row)
    columns = tl.arange(0, BLOCK)
    if target == ignore_index:
        for start in range(0, num_columns, BLOCK):
            zeros = tl.zeros((BLOCK,), tl.float32).to(logits.dtype.element_ty)
            tl.store(z_row + start + columns, zeros, mask=start + columns < num_columns)
        tl.store(losses + row, 0.0)
    else:
        # Read first: the soft-max's reductions then stand between it and the stores below, which
        # other warps may reach earlier.
        known = (target >= 0) & (target < vocab_size)
        z_target = tl.load(z_row + target, mask=known, other=float("nan")).to(tl.float32)
        largest = -float("inf")
        total = 0.0
        for start in range(0, vocab_size, BLOCK):
            inside = start + columns < vocab_size
            z = tl.load(z_row + start + columns, mask=inside, other=-float("inf")).to(tl.float32)
            larger = tl.maximum(largest, tl.max(z, axis=0))
            total = total * tl.exp(largest - larger) + tl.sum(tl.exp(z - larger), axis=0)
            largest = larger
        tl.store(losses + row, tl.log(total) - (z_target - largest))
        for start in range(0, num_columns, BLOCK):
            here = start + columns
            z = tl.load(z_row + here, mask=here < vocab_size, other=-float("inf")).to(tl.float32)
            gradient = tl.exp(z - largest) / total - tl.where(here == target, 1.0, 0.0)
            gradient = gradient.to(logits.dtype.element_ty)
            tl.store(z_row + here, gradient, mask=here < num_columns)
