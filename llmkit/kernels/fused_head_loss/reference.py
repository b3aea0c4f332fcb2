"""The formula of a linear head followed by cross-entropy. N = rows, E = width, V = vocabulary.

    z = h W^T                                               (N, V)
    loss = 1/d * sum over rows with t != ignore_index of  log sum_v exp(z_v) - z_t

d is `num_items` where it is given, and the number of rows that count where it is not. This is
`ForCausalLMLoss` of transformers after its shift of the labels:
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/loss/loss_utils.py
"""

from __future__ import annotations

import torch
from torch import Tensor


def fused_head_loss(
    hidden: Tensor,  # (N, E)
    weight: Tensor,  # (V, E)
    targets: Tensor,  # (N,) int64, each in [0, V) or `ignore_index`
    num_items: Tensor | float | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """The loss as a float32 scalar; NaN where no row counts and `num_items` is not given."""
    logits = (hidden @ weight.T).float()
    counts = targets != ignore_index
    picked = logits.gather(1, targets.where(counts, 0)[:, None])[:, 0]
    per_row = torch.logsumexp(logits, dim=1) - picked
    divisor = counts.sum() if num_items is None else num_items
    return per_row.where(counts, 0.0).sum() / divisor
