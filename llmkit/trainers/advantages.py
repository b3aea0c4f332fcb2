"""The arithmetic of PPO: rewards of tokens, advantages, clipped losses, the KL controller.

Pure functions of tensors (B, T): B completions of up to T tokens, padded on the right; `mask` is 1
at a token and 0 at padding. What they return is 0 at padding.

Sources: Schulman et al. 2015, GAE, https://arxiv.org/abs/1506.02438; Schulman et al. 2017, PPO,
https://arxiv.org/abs/1707.06347; Ziegler et al. 2019, https://arxiv.org/abs/1909.08593; Huang et
al. 2023, "The N Implementation Details of RLHF with PPO",
https://huggingface.co/blog/the_n_implementation_details_of_rlhf_with_ppo
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

KlEstimator = Literal["k1", "k3"]
Total = Callable[[Tensor], Tensor]

SMALL = 1e-8  # keeps a variance of zero from dividing


def this_rank(values: Tensor) -> Tensor:
    """The total of one rank alone. With several, `total=` sums a tensor over all of them."""
    return values


def token_kl(
    log_probs: Tensor,  # (B, T) of the tokens that were drawn, by the policy that drew them
    reference: Tensor,  # (B, T) of the same tokens, by the reference
    mask: Tensor,  # (B, T)
    estimator: KlEstimator = "k1",
) -> Tensor:
    """An estimate of KL(policy || reference) at each token, in nats; both have the right mean.

        k1 = log p - log q          k3 = q / p - 1 - log(q / p)

    k1 may be negative at a token, k3 never is. Source: http://joschu.net/blog/kl-approx.html
    """
    ratio = (log_probs - reference) * mask  # padding holds no log-probability
    return ratio if estimator == "k1" else torch.expm1(-ratio) + ratio


def token_rewards(
    scores: Tensor,  # (B,)
    kl: Tensor,  # (B, T)
    mask: Tensor,  # (B, T)
    kl_coef: float,
) -> Tensor:
    """-kl_coef * kl at each token, and the score of the whole answer at its last one.

    Source: Ziegler et al. 2019, equation 2.
    """
    rewards = -kl_coef * kl * mask
    rows, last = torch.arange(len(mask), device=mask.device), mask.long().sum(1) - 1
    rewards[rows, last] += scores.to(rewards.dtype)
    return rewards


def generalized_advantages(
    values: Tensor,  # (B, T) of the text before each token
    rewards: Tensor,  # (B, T)
    mask: Tensor,  # (B, T)
    gamma: float,
    lam: float,
) -> tuple[Tensor, Tensor]:
    """Advantages and returns (B, T) by GAE (section 3); what follows an answer is worth nothing.

    delta_t = r_t + gamma V_{t+1} - V_t         V_{end} = 0
    A_t     = delta_t + gamma lam A_{t+1}       R_t = A_t + V_t
    """
    values, rewards = values * mask, rewards * mask
    following = torch.nn.functional.pad(values[:, 1:], (0, 1))
    deltas = rewards + gamma * following - values
    advantages = torch.zeros_like(deltas)
    carried = torch.zeros_like(deltas[:, 0])
    for t in reversed(range(deltas.shape[1])):
        carried = deltas[:, t] + gamma * lam * carried
        advantages[:, t] = carried
    return advantages, (advantages + values) * mask


def masked_mean(values: Tensor, mask: Tensor, total: Total = this_rank) -> Tensor:
    """The mean over all tokens of all ranks."""
    sums = total(torch.stack([(values * mask).sum(), mask.sum().to(values.dtype)]))
    return sums[0] / sums[1]


def masked_variance(values: Tensor, mask: Tensor, total: Total = this_rank) -> Tensor:
    """The variance over all tokens of all ranks, around their common mean."""
    return masked_mean((values - masked_mean(values, mask, total)).square(), mask, total)


def masked_whiten(
    values: Tensor, mask: Tensor, shift_mean: bool = True, total: Total = this_rank
) -> Tensor:
    """Values with variance 1 and mean 0; without `shift_mean` the mean stays where it was.

    Source: Huang et al. 2023, "Reward whitening" and "Advantage whitening".
    """
    middle = masked_mean(values, mask, total)
    variance = masked_mean((values - middle).square(), mask, total)
    white = (values - middle) * torch.rsqrt(variance + SMALL)
    return (white if shift_mean else white + middle) * mask


def token_log_probs(
    logits: Tensor,  # (B, T, V) that predict each token
    tokens: Tensor,  # (B, T)
    temperature: float = 1.0,
    entropy: bool = False,
) -> tuple[Tensor, Tensor]:
    """ln p of each token, and with `entropy` that of its distribution, in float32; p is

    p = softmax(logits / temperature)         entropy = -sum_v p_v ln p_v, without gradient
    """
    logits = logits.float() if temperature == 1.0 else logits.float() / temperature
    flat = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), tokens.flatten(), reduction="none"
    )
    log_probs = -flat.view(tokens.shape)
    if not entropy:
        return log_probs, torch.zeros_like(log_probs)
    with torch.no_grad():
        log_p = logits.log_softmax(-1)
        return log_probs, -(log_p.exp() * log_p).sum(-1)


def policy_losses(
    log_probs: Tensor,  # (B, T), with gradient
    old_log_probs: Tensor,  # (B, T), of the policy that drew the tokens
    advantages: Tensor,  # (B, T)
    cliprange: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of each token, its ratio, and whether clipping made its loss the larger one.

    ratio = p / p_old        loss = max(-A ratio, -A clip(ratio, 1 - eps, 1 + eps))

    Source: Schulman et al. 2017, equation 7, with the sign turned.
    """
    ratio = torch.exp(log_probs - old_log_probs)
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - cliprange, 1 + cliprange)
    return torch.maximum(plain, clipped), ratio, clipped > plain


def value_losses(
    values: Tensor,  # (B, T), with gradient
    old_values: Tensor,  # (B, T), when the tokens were drawn
    returns: Tensor,  # (B, T)
    cliprange: float | None,
) -> tuple[Tensor, Tensor]:
    """Half the squared error of each token's value, and whether clipping made it larger.

    loss = max((V - R)^2, (V_old + clip(V - V_old, -eps, eps) - R)^2) / 2

    Without `cliprange` it is the first term alone. Source: Huang et al. 2023, "Value function loss
    clipping".
    """
    plain = (values - returns).square()
    if cliprange is None:
        return plain / 2, torch.zeros_like(plain, dtype=torch.bool)
    near = old_values + (values - old_values).clamp(-cliprange, cliprange)
    clipped = (near - returns).square()
    return torch.maximum(plain, clipped) / 2, clipped > plain


def explained_variance(
    values: Tensor, returns: Tensor, mask: Tensor, total: Total = this_rank
) -> float:
    """1 - Var(R - V) / Var(R): 1 where values foresee returns, 0 or less where they do not.

    NaN where the returns do not vary, so that there is nothing to foresee.
    """
    spread = float(masked_variance(returns, mask, total))
    left = float(masked_variance(returns - values, mask, total))
    return 1 - left / spread if spread > 0 else math.nan


@dataclass
class KlController:
    """The KL coefficient: fixed, or moved towards `target` nats a completion.

    error = clip(KL / target - 1, -0.2, 0.2)        coefficient *= 1 + error * n / horizon

    Source: Ziegler et al. 2019, section 2.2; their K is n / horizon for n completions a rollout.

    Attributes:
        coefficient: as it stands.
        target: nats a completion; None keeps the coefficient fixed.
        horizon: completions in which an error of 1 would double the coefficient.
    """

    coefficient: float
    target: float | None = None
    horizon: int = 10_000

    def update(self, kl: float, completions: int) -> None:
        """Move the coefficient after a rollout whose mean KL is `kl` nats a completion."""
        if self.target is None:
            return
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        self.coefficient *= 1 + error * completions / self.horizon
