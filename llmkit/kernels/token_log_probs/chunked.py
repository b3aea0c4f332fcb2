"""The formula of `reference.py`, a chunk of rows at a time, forward and backward.

What arrives at the outputs backwards is known only later, so the backward pass computes a chunk's
logits again. With a = d loss / d log_probs and b = d loss / d entropy of a row:

    dz_v = a ([v = t] - p_v) - b p_v (log p_v + entropy),   0 in rows that do not count
    dh = dz W,   dW = sum over chunks of dz^T h

What happens to a chunk of logits is in `torch_native.py` and, by Triton kernels, in `fused.py`.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from llmkit.kernels.autocast import compute_dtype, without_autocast
from llmkit.kernels.head_chunks import add_product, chunks, padded
from llmkit.kernels.placement import takes_triton
from llmkit.kernels.token_log_probs import torch_native


class Form(Protocol):
    """A module with the two steps on a chunk of logits (n, P), of which V columns count."""

    def statistics(
        self, logits: Tensor, targets: Tensor, vocab_size: int, ignore_index: int
    ) -> Tensor:
        """log_probs, entropy and log sum exp of each row: (3, n), float32."""

    def gradient_(
        self,
        logits: Tensor,
        targets: Tensor,
        statistics: Tensor,
        incoming: Tensor,
        vocab_size: int,
        ignore_index: int,
    ) -> None:
        """dz in the place of the logits, from `incoming` (2, n): a and b of each row."""


@torch.compiler.disable
def token_log_probs(
    hidden: Tensor,  # (N, E)
    weight: Tensor,  # (V, E)
    targets: Tensor,  # (N,) int64, each in [0, V) or `ignore_index`
    ignore_index: int = -100,
    *,
    form: Form | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies (N,) in float32, in nats, both with gradients.

    Matrix products run in autocast's dtype where it is on, else in that of `hidden`.

    Args:
        form: the steps on a chunk of logits; by default the form that suits the device.
    """
    dtype = compute_dtype(hidden.dtype, hidden.device)
    log_probs, entropy = _TokenLogProbs.apply(
        hidden, weight, targets, ignore_index, dtype, form or _form_for(hidden)
    )
    return log_probs, entropy


def _form_for(x: Tensor) -> Form:
    if takes_triton(x):
        from llmkit.kernels.token_log_probs import fused

        return fused
    return torch_native


class _TokenLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        ignore_index: int,
        dtype: torch.dtype,
        form: Form,
    ) -> tuple[Tensor, Tensor]:
        statistics = torch.empty(3, hidden.shape[0], dtype=torch.float32, device=hidden.device)
        with without_autocast(hidden.device):
            for part, logits in chunks(hidden.to(dtype), padded(weight, dtype)):
                statistics[:, part] = form.statistics(
                    logits, targets[part], weight.shape[0], ignore_index
                )
        ctx.save_for_backward(hidden, weight, targets, statistics)
        ctx.settings = ignore_index, dtype, form
        return statistics[0].clone(), statistics[1].clone()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_log_probs: Tensor, grad_entropy: Tensor
    ) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, statistics = ctx.saved_tensors
        ignore_index, dtype, form = ctx.settings
        wants_hidden, wants_weight, *_ = ctx.needs_input_grad
        vocab_size = weight.shape[0]
        incoming = torch.stack([grad_log_probs, grad_entropy]).float()
        h, w = hidden.to(dtype), padded(weight, dtype)
        grad_hidden = torch.empty_like(h) if wants_hidden else None
        grad_weight = torch.zeros_like(w, dtype=torch.float32) if wants_weight else None
        with without_autocast(h.device):
            for part, logits in chunks(h, w):
                rows = statistics[:, part], incoming[:, part]
                form.gradient_(logits, targets[part], *rows, vocab_size, ignore_index)
                if grad_hidden is not None:
                    torch.mm(logits, w, out=grad_hidden[part])
                if grad_weight is not None:
                    add_product(grad_weight, logits.T, h[part])
        of_hidden = None if grad_hidden is None else grad_hidden.to(hidden.dtype)
        of_weight = None if grad_weight is None else grad_weight[:vocab_size].to(weight.dtype)
        return of_hidden, of_weight, None, None, None, None
