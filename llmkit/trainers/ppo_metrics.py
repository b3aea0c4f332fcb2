"""What PPO reports, by the names that TRL's PPO gave it.

`objective/` is of a rollout, as it was drawn; `policy/`, `loss/` and `val/` are of its updates.
Source: https://huggingface.co/docs/trl/v0.29.0/ppo_trainer, "Explanation of the logged metrics"
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llmkit.trainers.advantages import Total, explained_variance, masked_mean
from llmkit.trainers.ppo_rollout import Batch, Rollout

# Of a micro-batch, in this order, and the number of its tokens behind them.
OF_UPDATES = (
    "loss/policy_avg",
    "loss/value_avg",
    "policy/approxkl_avg",
    "policy/clipfrac_avg",
    "val/clipfrac_avg",
    "val/ratio",
)


def rollout_figures(rollout: Rollout, kl_coef: float, total: Total) -> dict[str, float]:
    """Means over the completions of all ranks."""
    mask = rollout["completion_mask"]
    of_rows = torch.stack(
        [
            rollout.kl.sum(),
            -(rollout["log_probs"] * mask).sum(),
            rollout.scores.sum(),
            rollout.scores.new_tensor(rollout.ended),
            rollout.scores.new_tensor(len(rollout)),
        ]
    )
    *sums, count = total(of_rows).tolist()
    divergence, entropy, score = (value / count for value in sums[:3])
    return {
        "objective/kl": divergence,
        "objective/entropy": entropy,
        "objective/non_score_reward": -kl_coef * divergence,
        "objective/rlhf_reward": score - kl_coef * divergence,
        "objective/scores": score,
        "objective/kl_coef": kl_coef,
        "policy/entropy_avg": float(masked_mean(rollout["entropy"], mask, total)),
        "val/explained_variance": explained_variance(
            rollout["values"], rollout["returns"], mask, total
        ),
        "val/num_eos_tokens": sums[3],
    }


def update_sums(batch: Batch, per_token: Sequence[Tensor]) -> Tensor:
    """Sums over the tokens of a micro-batch, of (B, T) each in the order of `OF_UPDATES`."""
    mask = batch["completion_mask"]
    sums = [(values.detach().float() * mask).sum() for values in per_token]
    return torch.stack([*sums, mask.sum().float()])


def update_figures(sums: Sequence[Tensor], total: Total) -> dict[str, float]:
    """Means over all tokens that the updates of a rollout saw, and the spread of their ratios."""
    stacked = torch.stack(list(sums))
    all_of_them = total(stacked.sum(0))
    means = (all_of_them[:-1] / all_of_them[-1]).tolist()
    ratios = stacked[:, OF_UPDATES.index("val/ratio")] / stacked[:, -1]
    spread = float(ratios.var()) if len(ratios) > 1 else 0.0
    return dict(zip(OF_UPDATES, means, strict=True)) | {"val/ratio_var": spread}
