"""`causal_attention` where it suits: native code on a CPU that has it, torch's elsewhere."""

from __future__ import annotations

from torch import Tensor

from llmkit.kernels.attention import native, torch_native
from llmkit.kernels.placement import takes_native


def causal_attention(
    query: Tensor,  # (B, H, T, D)
    key: Tensor,  # (B, H or fewer, T, D)
    value: Tensor,  # as `key`
    scale: float,
) -> Tensor:
    """What each token takes from itself and those before it, (B, T, H, D).

    Under autocast in its dtype, else in that of the arguments.
    """
    if native.fits(query, key, value, scale) and takes_native("attention", query, key, value):
        return native.causal_attention(query, key, value, scale)
    return torch_native.causal_attention(query, key, value, scale)
