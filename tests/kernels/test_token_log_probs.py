"""token_log_probs: values and every gradient against float64 truth by torch's distributions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical

from llmkit.kernels import head_chunks
from llmkit.kernels.token_log_probs import reference as formula
from llmkit.kernels.token_log_probs import token_log_probs

TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 1.5e-2}  # error norm over truth norm
SHAPES = [(1, 3, 5), (63, 7, 101), (120, 33, 507)]  # N, E, V


@pytest.fixture(autouse=True, params=["one chunk", "many chunks, padded"])
def small_chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "one chunk":
        monkeypatch.setattr(head_chunks, "CHUNK_ELEMENTS", {"cpu": 1})
        monkeypatch.setattr(head_chunks, "FEWEST_ROWS", 17)
        monkeypatch.setattr(head_chunks, "VOCAB_MULTIPLE", {"cpu": 64})


def _inputs(shape: tuple[int, int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(sum(shape))
    num_rows, width, vocab_size = shape
    hidden = torch.randn(num_rows, width).to(dtype).requires_grad_()
    weight = torch.randn(vocab_size, width).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(vocab_size, (num_rows,))


def _error(found: Tensor, truth: Tensor) -> float:
    return ((found.double() - truth).norm() / truth.norm().clamp_min(1e-30)).item()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_values_and_gradients_equal_float64_truth(
    shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    hidden, weight, targets = _inputs(shape, dtype)
    targets[1::3] = -100
    h, w = (x.detach().double().requires_grad_() for x in (hidden, weight))
    counts = targets != -100
    truth = Categorical(logits=h @ w.T)
    true_log_probs = truth.log_prob(targets.clamp_min(0)) * counts
    true_entropy = truth.entropy() * counts
    log_probs, entropy = token_log_probs(hidden, weight, targets)
    assert log_probs.dtype == entropy.dtype == torch.float32
    assert _error(log_probs, true_log_probs) < TOLERANCES[dtype]
    assert _error(entropy, true_entropy) < TOLERANCES[dtype]
    a, b = torch.randn(2, shape[0])
    ((a * log_probs).sum() + (b * entropy).sum()).backward()
    ((a * true_log_probs).sum() + (b * true_entropy).sum()).backward()
    assert _error(hidden.grad, h.grad) < TOLERANCES[dtype], "d hidden"
    assert _error(weight.grad, w.grad) < TOLERANCES[dtype], "d weight"


def test_formula_equals_torch() -> None:
    hidden, weight, targets = _inputs((63, 7, 101), torch.float32)
    truth = Categorical(logits=hidden.double() @ weight.double().T)
    log_probs, entropy = formula.token_log_probs(hidden, weight, targets)
    assert _error(log_probs, truth.log_prob(targets)) < 1e-6
    assert _error(entropy, truth.entropy()) < 1e-6


def test_only_what_is_asked_backwards_is_computed() -> None:
    hidden, weight, targets = _inputs((63, 7, 101), torch.float32)
    weight.requires_grad_(False)
    log_probs, entropy = token_log_probs(hidden, weight, targets)
    log_probs.sum().backward()  # nothing arrives at entropy
    h = hidden.detach().double().requires_grad_()
    Categorical(logits=h @ weight.double().T).log_prob(targets).sum().backward()
    assert weight.grad is None and _error(hidden.grad, h.grad) < 2e-6
    with torch.no_grad():
        assert not token_log_probs(hidden, weight, targets)[0].requires_grad
