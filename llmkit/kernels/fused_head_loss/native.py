"""Cross-entropy of a chunk of logits and its gradient in place by `native.cpp`, on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from llmkit.kernels.native import call, library, named, numbers, threads

DTYPES = (torch.float32, torch.bfloat16)


def cross_entropy_(
    logits: Tensor,  # (n, P) in one of DTYPES, rows contiguous, overwritten with the gradient
    targets: Tensor,  # (n,) int64
    vocab_size: int,
    ignore_index: int,
) -> Tensor:
    """Losses (n,) in float32; `logits` becomes softmax - onehot, 0 in rows that do not count.

    Raises:
        IndexError: a target is neither in the vocabulary nor `ignore_index`, as torch says it.
    """
    outside = (targets != ignore_index) & ((targets < 0) | (targets >= vocab_size))
    if outside.any():
        raise IndexError(f"Target {int(targets[outside][0])} is out of bounds.")
    num_rows, num_columns = logits.shape
    losses = torch.empty(num_rows, dtype=torch.float32)
    sizes = numbers([num_rows, logits.stride(0), vocab_size, num_columns, ignore_index])
    function = getattr(library("fused_head_loss"), f"cross_entropy_{named(logits.dtype)}")
    call(function, logits, targets.contiguous(), losses, sizes, threads(logits.numel()))
    return losses
