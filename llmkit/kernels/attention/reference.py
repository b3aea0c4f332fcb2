"""The formula of causal attention. T = length, D = width of a head, H = heads.

    s_ij = scale * sum over d of q_id k_jd            for j <= i
    p_ij = exp s_ij / sum over j <= i of exp s_ij
    out_i = sum over j <= i of p_ij v_j

Where there are fewer heads of keys and values, each serves H / (their number) heads of queries that
follow one another (https://arxiv.org/abs/2305.13245). With g the gradient of `out`,

    dp_ij = g_i . v_j,    ds_ij = scale * p_ij (dp_ij - sum over j of p_ij dp_ij)
    dq_i = sum over j of ds_ij k_j,    dk_j = sum over i of ds_ij q_i
    dv_j = sum over i of p_ij g_i
"""

from __future__ import annotations

import torch
from torch import Tensor


def causal_attention(
    query: Tensor,  # (B, H, T, D)
    key: Tensor,  # (B, H or fewer, T, D)
    value: Tensor,  # as `key`
    scale: float,
) -> Tensor:
    """What each token takes from itself and those before it, (B, T, H, D)."""
    group = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    scores = scale * query @ key.transpose(-2, -1)
    unseen = torch.ones_like(scores, dtype=torch.bool).triu(1)
    weights = scores.masked_fill(unseen, -torch.inf).softmax(dim=-1)
    return (weights @ value).transpose(1, 2)
