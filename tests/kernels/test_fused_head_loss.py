"""fused_head_loss: loss and every gradient against float64 truth by torch's cross-entropy."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from llmkit.kernels import head_chunks
from llmkit.kernels.fused_head_loss import fused_head_loss
from llmkit.kernels.fused_head_loss import reference as formula

pytestmark = pytest.mark.usefixtures("form")
# Error over truth (at least 1) of the loss; error norm over truth norm of the gradients.
# bfloat16 keeps 8 bits.
TOLERANCES = {torch.float32: (1e-6, 2e-6), torch.bfloat16: (4e-3, 1.5e-2)}
SHAPES = [(1, 3, 5), (63, 7, 101), (252, 33, 507), (300, 16, 1009)]  # N, E, V


def _inputs(shape: tuple[int, int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(sum(shape))
    num_rows, width, vocab_size = shape
    hidden = torch.randn(num_rows, width).to(dtype).requires_grad_()
    weight = torch.randn(vocab_size, width).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(vocab_size, (num_rows,))


def _truth(
    hidden: Tensor, weight: Tensor, targets: Tensor, num_items: float | None, ignore_index: int
) -> list[Tensor]:
    """Loss and gradients in float64 by torch: an independent hand, not our formula."""
    h, w = (x.detach().double().requires_grad_() for x in (hidden, weight))
    reduction = "mean" if num_items is None else "sum"
    loss = functional.cross_entropy(
        h @ w.T, targets, ignore_index=ignore_index, reduction=reduction
    )
    loss = loss / (num_items or 1)
    loss.backward()
    return [loss.detach(), h.grad, w.grad]


def _error(found: Tensor, truth: Tensor) -> float:
    return ((found.double() - truth).norm() / truth.norm().clamp_min(1e-30)).item()


@pytest.fixture(autouse=True, params=["one chunk", "many chunks"])
def small_chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many chunks":
        monkeypatch.setattr(head_chunks, "CHUNK_ELEMENTS", {"cpu": 1})
        monkeypatch.setattr(head_chunks, "FEWEST_ROWS", 17)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("num_items", "ignore_index"), [(None, -100), (417, -100), (None, 1)])
def test_loss_and_every_gradient_equal_float64_truth(
    shape: tuple[int, int, int], dtype: torch.dtype, num_items: int | None, ignore_index: int
) -> None:
    hidden, weight, targets = _inputs(shape, dtype)
    targets[1::3] = ignore_index
    targets[0] = 0
    truth = _truth(hidden, weight, targets, num_items, ignore_index)
    loss = fused_head_loss(hidden, weight, targets, num_items, ignore_index)
    loss.backward()
    of_loss, of_gradient = TOLERANCES[dtype]
    assert loss.dtype == torch.float32 and weight.grad.dtype == hidden.grad.dtype == dtype
    assert abs(loss - truth[0]) < of_loss * truth[0].clamp_min(1), "loss"
    assert _error(hidden.grad, truth[1]) < of_gradient, "d hidden"
    assert _error(weight.grad, truth[2]) < of_gradient, "d weight"
    assert hidden.grad[targets == ignore_index].count_nonzero() == 0


def test_formula_equals_torch() -> None:
    hidden, weight, targets = _inputs((63, 7, 101), torch.float32)
    targets[5:9] = -100
    for num_items in (None, 12.5):
        loss = formula.fused_head_loss(hidden, weight, targets, num_items)
        assert _error(loss, _truth(hidden, weight, targets, num_items, -100)[0]) < 1e-6


def test_hand_worked_example() -> None:
    # logits (0, ln 3): softmax (1/4, 3/4), target 1: loss ln(4/3), dz = (1/4, -1/4), dh = dz W
    weight = torch.tensor([[0.0], [math.log(3)]])
    hidden = torch.tensor([[1.0]], requires_grad=True)
    loss = fused_head_loss(hidden, weight, torch.tensor([1]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(4 / 3))
    assert hidden.grad is not None
    assert hidden.grad.item() == pytest.approx(-math.log(3) / 4)


def test_num_items_may_be_a_tensor_and_the_incoming_factor_counts() -> None:
    hidden, weight, targets = _inputs((63, 7, 101), torch.float32)
    truth = _truth(hidden, weight, targets, 21, -100)
    loss = fused_head_loss(hidden, weight, targets, torch.tensor(21))
    (3 * loss).backward(retain_graph=True)
    assert _error(weight.grad, 3 * truth[2]) < 2e-6
    loss.backward()  # a second pass adds, as it does for any torch operation
    assert _error(weight.grad, 4 * truth[2]) < 2e-6


def test_large_logits_do_not_overflow() -> None:
    hidden, weight, targets = _inputs((63, 7, 101), torch.float32)
    with torch.no_grad():
        hidden.mul_(1e3)
    loss = fused_head_loss(hidden, weight, targets)
    loss.backward()
    truth = _truth(hidden, weight, targets, None, -100)
    assert _error(loss, truth[0]) < 1e-6 and _error(hidden.grad, truth[1]) < 2e-6


def test_nothing_counts_gives_nan_loss_and_zero_gradients_as_torch_does() -> None:
    hidden, weight, targets = _inputs((63, 7, 101), torch.float32)
    targets.fill_(-100)
    loss = fused_head_loss(hidden, weight, targets)
    loss.backward()
    truth = _truth(hidden, weight, targets, None, -100)
    assert loss.isnan() and truth[0].isnan()
    assert hidden.grad.count_nonzero() == 0 == truth[1].count_nonzero()
    assert weight.grad.count_nonzero() == 0 == truth[2].count_nonzero()


def test_only_the_gradients_that_are_wanted_are_made() -> None:
    hidden, weight, targets = _inputs((63, 7, 101), torch.float32)
    weight.requires_grad_(False)
    fused_head_loss(hidden, weight, targets).backward()
    assert weight.grad is None and hidden.grad is not None
    with torch.no_grad():
        assert not fused_head_loss(hidden, weight, targets).requires_grad


def test_autocast_computes_in_its_dtype_and_returns_gradients_in_the_parameters() -> None:
    hidden, weight, targets = _inputs((252, 33, 507), torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = fused_head_loss(hidden, weight, targets)
    loss.backward()
    truth = _truth(hidden, weight, targets, None, -100)
    assert loss.dtype == hidden.grad.dtype == weight.grad.dtype == torch.float32
    assert _error(loss, truth[0]) < 4e-3
    assert 1e-5 < _error(weight.grad, truth[2]) < 1.5e-2, "not in bfloat16"


def test_chunks_are_nearly_equal_and_bounded() -> None:
    for num_rows in (1, 17, 2048, 5000):
        rows = head_chunks.chunk_rows(num_rows, 50_257)
        bound = max(head_chunks.FEWEST_ROWS, head_chunks.CHUNK_ELEMENTS["cpu"] // 50_257)
        assert 1 <= rows <= bound
        assert (-(-num_rows // rows)) * rows - num_rows < -(-num_rows // rows)


class LargestTensor(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, list | tuple) else [made]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


def test_the_logits_are_never_there_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_chunks, "FEWEST_ROWS", 17)
    monkeypatch.setattr(head_chunks, "CHUNK_ELEMENTS", {"cpu": 1})
    hidden, weight, targets = _inputs((252, 33, 507), torch.float32)
    with LargestTensor() as fused:
        fused_head_loss(hidden, weight, targets).backward()
    with LargestTensor() as stock:
        formula.fused_head_loss(hidden, weight, targets).backward()
    assert stock.elements == 252 * 507
    assert fused.elements == 33 * 507, "the gradient of the weight, the largest that must be there"
