"""PPO's arithmetic against numbers worked out by hand, and against plain loops over floats."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch import Tensor

from llmkit.trainers.advantages import (
    KlController,
    explained_variance,
    generalized_advantages,
    masked_mean,
    masked_whiten,
    policy_losses,
    token_kl,
    token_log_probs,
    token_rewards,
    value_losses,
)


def masks(*lengths: int) -> Tensor:
    longest = max(lengths)
    return torch.tensor([[1] * n + [0] * (longest - n) for n in lengths])


def drawn(rows: int, width: int, seed: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def test_kl_estimators() -> None:
    """ln 0.5 - ln 0.25 = 0.693; q / p - 1 - ln(q / p) = 0.5 - 1 + 0.693 = 0.193."""
    policy, reference = (
        torch.tensor([[0.5, 0.1, 9.0]]).log(),
        torch.tensor([[0.25, 0.4, 1.0]]).log(),
    )
    k1 = token_kl(policy, reference, masks(2, 3)[:1], "k1")
    k3 = token_kl(policy, reference, masks(2, 3)[:1], "k3")
    assert k1[0].tolist() == pytest.approx([math.log(2), -math.log(4), 0.0])
    assert k3[0].tolist() == pytest.approx([math.log(2) - 0.5, 3 - math.log(4), 0.0])


def test_both_estimators_have_the_true_mean() -> None:
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    true = float((p * (p / q).log()).sum())
    for estimator in ("k1", "k3"):
        each = token_kl(p.log()[None], q.log()[None], torch.ones(1, 3), estimator)
        assert float((p * each).sum()) == pytest.approx(true, rel=1e-5)


def test_rewards_are_the_penalty_and_the_score_at_the_last_token() -> None:
    kl = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    rewards = token_rewards(torch.tensor([10.0, -1.0]), kl, masks(3, 2), 0.1)
    expected = torch.tensor([[-0.1, -0.2, 9.7], [-0.4, -1.5, 0.0]])
    assert torch.allclose(rewards, expected)


def test_advantages_by_hand() -> None:
    """gamma 0.5, lam 0.5; from the end: delta 3 - 2 = 1, A = 1;
    delta 0 + 0.5 * 2 - 4 = -3, A = -3 + 0.25 * 1 = -2.75;
    delta 1 + 0.5 * 4 - 1 = 2, A = 2 + 0.25 * -2.75 = 1.3125."""
    values = torch.tensor([[1.0, 4.0, 2.0, 99.0]])
    rewards = torch.tensor([[1.0, 0.0, 3.0, 99.0]])
    advantages, returns = generalized_advantages(values, rewards, masks(3, 4)[:1], 0.5, 0.5)
    assert advantages[0].tolist() == [1.3125, -2.75, 1.0, 0.0]
    assert returns[0].tolist() == [2.3125, 1.25, 3.0, 0.0]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.0), (0.97, 1.0)])
def test_advantages_are_the_sum_of_the_paper(gamma: float, lam: float) -> None:
    """A_t = sum over l of (gamma lam)^l delta_{t+l}, term by term, each row by itself."""
    lengths = [7, 1, 4]
    values, rewards = drawn(3, 7, 0), drawn(3, 7, 1)
    advantages, returns = generalized_advantages(values, rewards, masks(*lengths), gamma, lam)
    for row, length in enumerate(lengths):
        v = [*values[row, :length].tolist(), 0.0]
        delta = [float(rewards[row, t]) + gamma * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            sum_of_deltas = sum((gamma * lam) ** (k - t) * delta[k] for k in range(t, length))
            assert float(advantages[row, t]) == pytest.approx(sum_of_deltas, abs=1e-5)
            assert float(returns[row, t]) == pytest.approx(sum_of_deltas + v[t], abs=1e-5)
        assert not advantages[row, length:].any() and not returns[row, length:].any()


def test_with_lambda_one_the_return_is_what_came() -> None:
    rewards, mask = drawn(2, 5, 3), masks(5, 3)
    _, returns = generalized_advantages(drawn(2, 5, 4), rewards, mask, 1.0, 1.0)
    for row, length in enumerate((5, 3)):
        came = [float(rewards[row, t:length].sum()) for t in range(length)]
        assert returns[row, :length].tolist() == pytest.approx(came, abs=1e-5)


def test_whitening_counts_tokens_and_no_padding() -> None:
    values, mask = drawn(4, 6, 5) * 3 + 2, masks(6, 1, 3, 5)
    kept = [float(v) for row, n in zip(values, (6, 1, 3, 5), strict=True) for v in row[:n]]
    mean = sum(kept) / len(kept)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in kept) / len(kept))
    white = masked_whiten(values, mask)
    assert float(white[2, 1]) == pytest.approx((float(values[2, 1]) - mean) / deviation, rel=1e-4)
    assert not white[mask == 0].any()
    shifted = masked_whiten(values, mask, shift_mean=False)
    assert torch.allclose(shifted, (white + mean) * mask, atol=1e-5)


def test_several_ranks_are_whitened_by_their_common_figures() -> None:
    """Each of two ranks gets what one rank with all rows gets, where `total` adds the other's."""
    values, mask = drawn(4, 6, 6), masks(6, 2, 4, 5)
    whole, mean = masked_whiten(values, mask), masked_mean(values, mask)
    others = [values[2:], (values[2:] - mean).square()]  # what the second rank asks to be added

    def total(sums: Tensor) -> Tensor:
        theirs = others.pop(0)
        return sums + torch.stack([(theirs * mask[2:]).sum(), mask[2:].sum().float()])

    assert torch.allclose(masked_whiten(values[:2], mask[:2], total=total), whole[:2], atol=1e-5)


def test_log_probabilities_and_entropy() -> None:
    logits = drawn(6, 11, 7).view(2, 3, 11) * 4
    tokens = torch.tensor([[0, 10, 3], [5, 5, 1]])
    for temperature in (1.0, 0.7):
        log_probs, entropy = token_log_probs(logits, tokens, temperature, entropy=True)
        for row in range(2):
            for t in range(3):
                powers = [math.exp(float(z) / temperature) for z in logits[row, t]]
                p = [power / sum(powers) for power in powers]
                wanted = math.log(p[int(tokens[row, t])])
                assert float(log_probs[row, t]) == pytest.approx(wanted, abs=1e-5)
                own = -sum(x * math.log(x) for x in p)
                assert float(entropy[row, t]) == pytest.approx(own, abs=1e-5)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.0, 2.0, -2.0, False),
        (1.5, 2.0, -2.4, True),  # no more to gain above 1.2
        (0.5, 2.0, -1.0, False),  # what was lost counts in full
        (0.5, -2.0, 1.6, True),  # no more to gain below 0.8
        (1.5, -2.0, 3.0, False),
    ],
)
def test_policy_losses_by_hand(ratio: float, advantage: float, loss: float, clipped: bool) -> None:
    log_probs = torch.tensor([[math.log(ratio) - 1.0]], requires_grad=True)
    found, ratios, bits = policy_losses(
        log_probs, torch.tensor([[-1.0]]), torch.tensor([[advantage]]), 0.2
    )
    assert float(found.detach()) == pytest.approx(loss) and bool(bits) is clipped
    assert float(ratios.detach()) == pytest.approx(ratio)
    found.sum().backward()
    assert log_probs.grad is not None
    gradient = 0.0 if clipped else -advantage * ratio
    assert float(log_probs.grad) == pytest.approx(gradient)


@pytest.mark.parametrize(
    ("value", "old", "returns", "cliprange", "loss", "clipped"),
    [
        (1.0, 1.0, 3.0, 0.2, 2.0, False),
        (2.0, 1.0, 3.0, 0.2, 1.62, True),  # held at 1.2: 1.8^2 / 2
        (0.0, 1.0, 3.0, 0.2, 4.5, False),  # further off than 0.8 is
        (2.0, 1.0, 3.0, None, 0.5, False),
    ],
)
def test_value_losses_by_hand(
    value: float, old: float, returns: float, cliprange: float | None, loss: float, clipped: bool
) -> None:
    values = torch.tensor([[value]], requires_grad=True)
    found, bits = value_losses(values, torch.tensor([[old]]), torch.tensor([[returns]]), cliprange)
    assert float(found.detach()) == pytest.approx(loss) and bool(bits) is clipped
    found.sum().backward()
    assert values.grad is not None
    assert float(values.grad) == pytest.approx(0.0 if clipped else value - returns)


def test_explained_variance() -> None:
    returns, mask = torch.tensor([[1.0, 3.0, 50.0]]), masks(2, 3)[:1]
    assert explained_variance(returns - 7, returns, mask) == pytest.approx(1.0)
    assert explained_variance(torch.zeros(1, 3), returns, mask) == pytest.approx(0.0)
    assert explained_variance(-returns, returns, mask) == pytest.approx(-3.0)
    assert math.isnan(explained_variance(returns, torch.ones(1, 3), mask))


def test_the_controller_of_ziegler() -> None:
    controller = KlController(0.2, target=6.0, horizon=640)
    controller.update(9.0, 64)  # half too much, counted as 0.2: times 1 + 0.2 * 64 / 640
    assert controller.coefficient == pytest.approx(0.2 * 1.02)
    controller.update(5.4, 64)  # a tenth too little
    assert controller.coefficient == pytest.approx(0.2 * 1.02 * 0.99)
    controller.update(0.0, 64)
    assert controller.coefficient == pytest.approx(0.2 * 1.02 * 0.99 * 0.98)
    fixed = KlController(0.05)
    fixed.update(1000.0, 64)
    assert fixed.coefficient == 0.05


def test_the_controller_holds_a_simulated_policy_at_its_target() -> None:
    """A policy whose KL falls as the coefficient rises, KL = 1 / coefficient, with noise."""
    noise = random.Random(0)
    controller = KlController(1.0, target=5.0, horizon=1000)
    for _ in range(2000):
        controller.update(noise.uniform(0.8, 1.2) / controller.coefficient, 50)
    assert 1 / controller.coefficient == pytest.approx(5.0, rel=0.05)
