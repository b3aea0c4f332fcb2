"""Cross-entropy of a chunk of logits and its gradient by torch's own operations, on any device."""

from __future__ import annotations

from torch import Tensor


def cross_entropy_(
    logits: Tensor,  # (n, P), overwritten with the gradient
    targets: Tensor,  # (n,) int64
    vocab_size: int,
    ignore_index: int,
) -> Tensor:
    """Losses (n,) in float32; `logits` becomes softmax - onehot, 0 in rows that do not count."""
    counts = (targets != ignore_index)[:, None]
    targets = targets[:, None].where(counts, 0)
    z = logits[:, :vocab_size].float()  # the logits themselves where they are float32
    z.sub_(z.amax(dim=1, keepdim=True))
    picked = z.gather(1, targets)  # after the shift, so that small losses keep their digits
    total = z.exp_().sum(dim=1, keepdim=True)
    losses = (total.log() - picked).masked_fill_(~counts, 0.0)
    z.div_(total).scatter_add_(1, targets, z.new_full(targets.shape, -1.0))
    z.masked_fill_(~counts, 0.0)
    if z.data_ptr() != logits.data_ptr():
        logits[:, :vocab_size] = z
    logits[:, vocab_size:] = 0.0
    return losses[:, 0]
