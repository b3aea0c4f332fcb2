"""The formula of a linear head read as a distribution. N = rows, E = width, V = vocabulary.

    z = h W^T                                               (N, V)
    log p = z - log sum_v exp(z_v)
    log_probs = log p_t,    entropy = - sum_v p_v log p_v    (N,), nats

Both are 0 in rows whose target is `ignore_index`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_log_probs(
    hidden: Tensor,  # (N, E)
    weight: Tensor,  # (V, E)
    targets: Tensor,  # (N,) int64, each in [0, V) or `ignore_index`
    ignore_index: int = -100,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies (N,), at least float32."""
    logits = hidden @ weight.T
    logits = logits if logits.dtype == torch.float64 else logits.float()
    log_p = torch.log_softmax(logits, dim=1)
    counts = targets != ignore_index
    picked = log_p.gather(1, targets.where(counts, 0)[:, None])[:, 0]
    entropy = -(log_p.exp() * log_p).sum(dim=1)
    return picked.where(counts, 0.0), entropy.where(counts, 0.0)
