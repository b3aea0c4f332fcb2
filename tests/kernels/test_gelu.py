"""gelu: outputs and gradients against float64 truth, at sizes no block divides."""

from __future__ import annotations

import pytest
import torch
from transformers.activations import NewGELUActivation

from llmkit.kernels.gelu import gelu
from llmkit.kernels.gelu import reference as formula

pytestmark = pytest.mark.usefixtures("form")
# Largest error over the largest true value. bfloat16 keeps 8 bits: half a unit is 2^-9 = 0.002.
TOLERANCES = {torch.float32: 1e-6, torch.bfloat16: 4e-3}
SHAPES = [(1,), (7, 13), (3, 5, 1021)]


def _relative_error(found: torch.Tensor, truth: torch.Tensor) -> float:
    return ((found.double() - truth).abs().max() / truth.abs().max()).item()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_gelu_equals_the_formula_in_float64(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = (3 * torch.randn(shape)).to(dtype).requires_grad_()
    grad_y = torch.randn(shape).to(dtype)
    x_true = x.detach().double().requires_grad_()
    y_true = formula.gelu(x_true)
    y_true.backward(grad_y.double())
    y = gelu(x)
    y.backward(grad_y)
    assert y.dtype == x.grad.dtype == dtype
    assert _relative_error(y, y_true) < TOLERANCES[dtype], "y"
    assert _relative_error(x.grad, x_true.grad) < TOLERANCES[dtype], "dx"


def test_formula_equals_transformers_and_known_values() -> None:
    x = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0], dtype=torch.float64)
    # Worked with a pocket calculator: 0.5 * (1 + tanh(0.79788456 * 1.044715)) = 0.84119199
    assert formula.gelu(x)[3].item() == pytest.approx(0.84119199, abs=1e-8)
    assert formula.gelu(x)[2].item() == 0
    torch.testing.assert_close(formula.gelu(x), NewGELUActivation()(x))


def test_far_tails_stay_finite() -> None:
    x = torch.tensor([-1e4, 1e4], requires_grad=True)
    y = gelu(x)
    y.sum().backward()
    assert y.tolist() == [0.0, 1e4]
    assert x.grad is not None and x.grad.tolist() == [0.0, 1.0]
