"""Every Triton kernel, through Triton's interpreter, against float64 truth at odd shapes.

`tests/conftest.py` sets TRITON_INTERPRET before a kernel is imported. Fresh memory is filled with
NaN, so that an element that a kernel forgets to write is found.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

pytest.importorskip("triton", reason="no triton here: pip install 'llmkit[gpu]'")

from llmkit.kernels import head_chunks  # noqa: E402
from llmkit.kernels.fused_head_loss import fused as fused_head  # noqa: E402
from llmkit.kernels.fused_head_loss import fused_head_loss  # noqa: E402
from llmkit.kernels.gelu import fused as fused_gelu  # noqa: E402
from llmkit.kernels.gelu import reference as gelu_formula  # noqa: E402
from llmkit.kernels.layer_norm import fused as fused_norm  # noqa: E402
from llmkit.kernels.layer_norm import reference as norm_formula  # noqa: E402
from llmkit.kernels.token_log_probs import fused as fused_log_probs  # noqa: E402
from llmkit.kernels.token_log_probs import reference as log_probs_formula  # noqa: E402
from llmkit.kernels.token_log_probs import token_log_probs  # noqa: E402

# Triton 3.6's interpreter does what numpy 2.0 warns of.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning"),
    pytest.mark.usefixtures("poisoned"),
]

# Error norm over truth norm. bfloat16 keeps 8 bits.
TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 1.5e-2}
HEADS = [(1, 3, 5), (9, 7, 130), (21, 33, 507)]  # N, E, V


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks, several rounds a row, and a vocabulary padded to a multiple of 64."""
    monkeypatch.setattr(head_chunks, "CHUNK_ELEMENTS", {"cpu": 1})
    monkeypatch.setattr(head_chunks, "FEWEST_ROWS", 8)
    monkeypatch.setattr(head_chunks, "VOCAB_MULTIPLE", {"cpu": 64})
    monkeypatch.setattr(fused_head, "LARGEST_BLOCK", 64)
    monkeypatch.setattr(fused_log_probs, "LARGEST_BLOCK", 64)


def _agrees(found: Any, truth: Tensor, dtype: torch.dtype) -> bool:
    """False for NaN too."""
    error = (found.double() - truth).norm() / truth.norm().clamp_min(1e-30)
    return bool(error < TOLERANCES[dtype])


def _head(shape: tuple[int, int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(sum(shape))
    num_rows, width, vocab_size = shape
    hidden = torch.randn(num_rows, width).to(dtype).requires_grad_()
    weight = torch.randn(vocab_size, width).to(dtype).requires_grad_()
    targets = torch.randint(vocab_size, (num_rows,))
    targets[1::3] = -100
    targets[-1] = vocab_size - 1  # beside the padding
    return hidden, weight, targets


def _doubled(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("shape", HEADS, ids=str)
def test_fused_head_loss(
    shape: tuple[int, int, int], dtype: torch.dtype, small_blocks: None
) -> None:
    hidden, weight, targets = _head(shape, dtype)
    h, w = _doubled(hidden, weight)
    truth = functional.cross_entropy(h @ w.T, targets, reduction="sum") / 17
    truth.backward()
    loss = fused_head_loss(hidden, weight, targets, 17, cross_entropy=fused_head.cross_entropy_)
    loss.backward()
    assert _agrees(loss, truth, dtype)
    assert _agrees(hidden.grad, h.grad, dtype), "d hidden"
    assert _agrees(weight.grad, w.grad, dtype), "d weight"


def test_cross_entropy_clears_the_padding_and_rows_that_do_not_count(small_blocks: None) -> None:
    logits = torch.full((3, 192), 1e4)  # rubbish in the padding, and large values everywhere
    logits[:, :130] += torch.randn(3, 130)
    losses = fused_head.cross_entropy_(logits, torch.tensor([2, -100, 129]), 130, -100)
    assert losses[1] == 0 and losses.isfinite().all()
    assert logits[:, 130:].count_nonzero() == 0 == logits[1].count_nonzero()
    assert logits.sum(dim=1).abs().max() < 1e-5  # softmax - onehot sums to nothing


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("shape", HEADS, ids=str)
def test_token_log_probs(
    shape: tuple[int, int, int], dtype: torch.dtype, small_blocks: None
) -> None:
    hidden, weight, targets = _head(shape, dtype)
    h, w = _doubled(hidden, weight)
    found = token_log_probs(hidden, weight, targets, form=fused_log_probs)
    truth = log_probs_formula.token_log_probs(h, w, targets)
    incoming = torch.randn(2, shape[0])
    for value, true, of in zip(found, truth, ("log_probs", "entropy"), strict=True):
        assert _agrees(value, true, dtype), of
    sum((value * a).sum() for value, a in zip(found, incoming, strict=True)).backward()
    sum((value * a).sum() for value, a in zip(truth, incoming, strict=True)).backward()
    assert _agrees(hidden.grad, h.grad, dtype), "d hidden"
    assert _agrees(weight.grad, w.grad, dtype), "d weight"


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("shape", [(1,), (7, 13), (3, 5, 221)], ids=str)
def test_gelu(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = (3 * torch.randn(shape)).to(dtype).requires_grad_()
    (x_true,) = _doubled(x)
    grad_y = torch.randn(shape).to(dtype)
    y, y_true = fused_gelu.gelu(x), gelu_formula.gelu(x_true)
    y.backward(grad_y)
    y_true.backward(grad_y.double())
    assert y.dtype == dtype and _agrees(y, y_true, dtype) and _agrees(x.grad, x_true.grad, dtype)


@pytest.mark.parametrize("adds", [True, False], ids=["residual", "alone"])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 5, 33), (3, 7, 200)], ids=str)
def test_layer_norm(
    shape: tuple[int, ...], dtype: torch.dtype, adds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_norm, "NUM_STRIPES", 4)
    torch.manual_seed(0)
    x = (5 + torch.randn(shape)).to(dtype).requires_grad_()
    # GPT-2's residual stream stays float32 under autocast, while x is bfloat16.
    residual = torch.randn(shape).requires_grad_() if adds else None
    weight, bias = (torch.randn(shape[-1]).requires_grad_() for _ in range(2))
    given = [value for value in (x, residual, weight, bias) if value is not None]
    truths = _doubled(*given)
    doubled = [truths[0], truths[1] if adds else None, *truths[-2:]]
    r, y = fused_norm.add_layer_norm(x, residual, weight, bias, 1e-5)
    r_true, y_true = norm_formula.add_layer_norm(*doubled, 1e-5)
    exact = torch.float32 if adds else dtype
    assert r.dtype == y.dtype == exact
    assert _agrees(r, r_true, exact) and _agrees(y, y_true, exact)
    by_r, by_y = torch.randn(shape), torch.randn(shape)
    ((r * by_r).sum() + (y * by_y).sum()).backward()
    ((r_true * by_r).sum() + (y_true * by_y).sum()).backward()
    for value, true in zip(given, truths, strict=True):
        # float32 sums of float32 gradients: the norm's gradient loses a digit by cancellation
        close = torch.bfloat16 if value.dtype == torch.bfloat16 or not adds else torch.float32
        error = (value.grad.double() - true.grad).norm() / true.grad.norm()
        assert error < {torch.float32: 2e-5, torch.bfloat16: 1.5e-2}[close]


def test_layer_norm_under_autocast_answers_in_its_dtype() -> None:
    x = torch.randn(4, 33, dtype=torch.bfloat16)
    residual = torch.randn(4, 33)
    weight, bias = torch.ones(33), torch.zeros(33)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        r, y = fused_norm.add_layer_norm(x, residual, weight, bias, 1e-5)
    assert r.dtype == torch.float32 and y.dtype == torch.bfloat16
    truth = functional.layer_norm(x.double() + residual.double(), (33,))
    assert _agrees(y, truth, torch.bfloat16)


def test_layer_norm_of_which_only_the_sum_is_used() -> None:
    x, residual = torch.randn(2, 5, requires_grad=True), torch.randn(2, 5, requires_grad=True)
    weight = torch.ones(5, requires_grad=True)
    r, _ = fused_norm.add_layer_norm(x, residual, weight, torch.zeros(5), 1e-5)
    r.sum().backward()
    assert torch.equal(x.grad, torch.ones(2, 5)) and torch.equal(residual.grad, x.grad)


@pytest.mark.parametrize("target", [-1, 130, 1_000_000])
def test_a_target_outside_the_vocabulary_gives_nan_and_reads_nothing(
    target: int, small_blocks: None
) -> None:
    targets = torch.tensor([2, target, -100])
    logits = torch.randn(3, 192)
    losses = fused_head.cross_entropy_(logits, targets, 130, -100)
    assert losses.isnan().tolist() == [False, True, False]
    hidden, weight = torch.randn(3, 8), torch.randn(130, 8)
    log_probs, _ = token_log_probs(hidden, weight, targets, form=fused_log_probs)
    assert log_probs.isnan().tolist() == [False, True, False]
