"""The two steps on a chunk of logits by torch's own operations, on any device."""

from __future__ import annotations

import torch
from torch import Tensor


def statistics(logits: Tensor, targets: Tensor, vocab_size: int, ignore_index: int) -> Tensor:
    """log_probs, entropy and log sum exp of each row of `logits` (n, P): (3, n), float32."""
    counts = targets != ignore_index
    z = logits[:, :vocab_size].float()
    log_sum = torch.logsumexp(z, dim=1)
    log_p = z - log_sum[:, None]
    picked = log_p.gather(1, targets.where(counts, 0)[:, None])[:, 0]
    entropy = -(log_p.exp().mul_(log_p)).sum(dim=1)
    return torch.stack([picked.where(counts, 0.0), entropy.where(counts, 0.0), log_sum])


def gradient_(
    logits: Tensor,  # (n, P), overwritten with dz
    targets: Tensor,  # (n,) int64
    statistics: Tensor,  # (3, n), as `statistics` gave them
    incoming: Tensor,  # (2, n): the gradients by log-probability and by entropy
    vocab_size: int,
    ignore_index: int,
) -> None:
    """dz = a ([v = t] - p) - b p (log p + entropy) in the place of the logits."""
    counts = targets != ignore_index
    by_log_prob, by_entropy = incoming.where(counts, 0.0)[..., None]
    _, entropy, log_sum = statistics[..., None]
    log_p = logits[:, :vocab_size].float() - log_sum
    p = log_p.exp()
    gradient = p.mul_(-by_log_prob - by_entropy * (log_p + entropy))
    gradient.scatter_add_(1, targets.where(counts, 0)[:, None], by_log_prob)
    logits[:, :vocab_size] = gradient
    logits[:, vocab_size:] = 0.0
