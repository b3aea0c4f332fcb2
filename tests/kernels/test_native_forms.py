"""Native GELU, head loss and layer norm against float64 truth, at sizes no sixteen divides."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from llmkit.device import cpu_flags
from llmkit.kernels import native
from llmkit.kernels.fused_head_loss import fused_head_loss
from llmkit.kernels.fused_head_loss import native as native_head
from llmkit.kernels.gelu import native as native_gelu
from llmkit.kernels.gelu import torch_native as torch_gelu
from llmkit.kernels.layer_norm import native as native_norm

pytestmark = pytest.mark.usefixtures("built", "poisoned")
DTYPES = (torch.float32, torch.bfloat16)
TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 6e-3}  # error norm over truth norm


@pytest.fixture(params=["all instructions", "without avx512_bf16"])
def built(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    needs_native: Callable[[str], None],
) -> None:
    """Both ways in which bfloat16 is rounded, where this CPU can run both."""
    for op in ("gelu", "fused_head_loss", "layer_norm"):
        needs_native(op)
    if request.param != "all instructions":
        flags = frozenset(cpu_flags() - {native.BF16})
        for op in ("gelu", "fused_head_loss", "layer_norm"):
            compiled = native.load(op, flags)
            module = importlib.import_module(f"llmkit.kernels.{op}.native")
            monkeypatch.setattr(module, "library", lambda op, it=compiled: it)


def _close(found: Tensor | None, truth: Tensor, dtype: torch.dtype) -> bool:
    """False for NaN too."""
    assert found is not None and found.shape == truth.shape
    error = (found.double() - truth).norm() / truth.norm().clamp_min(1e-30)
    return bool(error < TOLERANCES[dtype])


@pytest.mark.parametrize("shape", [(1,), (7, 13), (3, 5, 1021), (70_001,)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lies", ["in a row", "turned"])
def test_gelu(shape: tuple[int, ...], dtype: torch.dtype, lies: str) -> None:
    torch.manual_seed(0)
    x, grad_y = (3 * torch.randn(shape).to(dtype) for _ in range(2))
    if lies == "turned":
        x, grad_y = x.flip(-1).transpose(0, -1), grad_y.transpose(0, -1)
    x.requires_grad_()
    x_true = x.detach().double().requires_grad_()
    y_true = functional.gelu(x_true, approximate="tanh")
    y_true.backward(grad_y.double())
    y = native_gelu.gelu(x)
    y.backward(grad_y)
    assert y.dtype == dtype and _close(y, y_true, dtype) and _close(x.grad, x_true.grad, dtype)


def test_gelu_of_every_bfloat16_is_the_nearest_or_beside_it() -> None:
    x = torch.arange(-(1 << 15), 1 << 15).to(torch.int16).view(torch.bfloat16)
    x = x[x.abs() < 1e30]  # x^3 overflows further out, in float64 it does not
    x = x[(x == 0) | (x.abs() > 1e-30)].requires_grad_()
    y = native_gelu.gelu(x)
    y.sum().backward()
    x_true = x.detach().double().requires_grad_()
    y_true = functional.gelu(x_true, approximate="tanh")
    y_true.sum().backward()
    seen = x.detach().abs() < 5  # further left the result has no digits that matter
    for found, truth in ((y, y_true.detach()), (x.grad, x_true.grad)):
        found = found.detach().double()
        assert ((found - truth).abs() <= 2**-8 * truth.abs() + 1e-30)[seen].all()
        assert ((found - truth).abs() <= 1e-7 + 2**-8 * truth.abs()).all()


def test_gelu_in_float32_has_its_digits_point_by_point() -> None:
    x = torch.linspace(-5, 10, 100_003)
    y_true = functional.gelu(x.double(), approximate="tanh")
    error = (native_gelu.gelu(x).double() - y_true).abs() / y_true.abs()
    assert error[x != 0].max() < 3e-6 and error[x > -3].max() < 1e-6


def test_gelu_at_the_ends() -> None:
    x = torch.tensor([-1e30, -1e4, 1e4, 1e30, torch.nan, 0.0], requires_grad=True)
    y = native_gelu.gelu(x)
    y.sum().backward()
    assert y[:4].tolist() == [0, 0, torch.tensor(1e4).item(), torch.tensor(1e30).item()]
    assert x.grad is not None and x.grad[:4].tolist() == [0, 0, 1, 1]
    assert y[4].isnan() and x.grad[4].isnan() and y[5] == 0 and x.grad[5] == 0.5


def test_gelu_has_a_second_derivative_also_of_what_lies_apart() -> None:
    x = torch.randn(33, 7).T.requires_grad_()

    def second(form: Any) -> Tensor:
        (slope,) = torch.autograd.grad(form.gelu(x).sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), x)[0]

    torch.testing.assert_close(second(native_gelu), second(torch_gelu), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 5), (63, 7, 101), (300, 33, 1009)], ids=str)  # N, E, V
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_head_loss(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    num_rows, width, vocab_size = shape
    hidden = torch.randn(num_rows, width).to(dtype).requires_grad_()
    weight = torch.randn(vocab_size, width).to(dtype).requires_grad_()
    targets = torch.randint(vocab_size, (num_rows,))
    targets[1::3], targets[-1] = -100, vocab_size - 1
    h, w = (x.detach().double().requires_grad_() for x in (hidden, weight))
    truth = functional.cross_entropy(h @ w.T, targets, reduction="sum") / 17
    truth.backward()
    form = native_head.cross_entropy_
    loss = fused_head_loss(hidden, weight, targets, 17, cross_entropy=form)
    loss.backward()
    bfloat16 = {"rtol": 4e-3, "atol": 4e-3} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(loss.double(), truth, **bfloat16)
    for found, true in ((hidden.grad, h.grad), (weight.grad, w.grad)):
        error = (found.double() - true).norm() / true.norm()
        assert error < (1.5e-2 if dtype == torch.bfloat16 else 2e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_cross_entropy_of_padded_and_far_logits(dtype: torch.dtype) -> None:
    """Columns from the vocabulary on become 0 and count for nothing, whatever stands there."""
    torch.manual_seed(0)
    logits = (1e3 * torch.randn(9, 149)).to(dtype)
    true = logits[:, :130].double().requires_grad_()
    logits[:, 130:] = torch.nan
    targets = torch.tensor([0, 129, -100, 128, 5, 16, 15, -100, 64])
    losses = native_head.cross_entropy_(logits, targets, 130, -100)
    expected = functional.cross_entropy(true, targets, reduction="none")
    expected.sum().backward()
    torch.testing.assert_close(losses.double(), expected.detach(), rtol=1e-5, atol=1e-3)
    assert logits[:, 130:].count_nonzero() == 0 == logits[targets == -100].count_nonzero()
    torch.testing.assert_close(
        logits[:, :130].double(), true.grad, rtol=0, atol=4e-3 if dtype == torch.bfloat16 else 1e-4
    )


def test_not_a_number_stays_one_in_its_row() -> None:
    logits = torch.randn(3, 40)
    logits[1, 7] = torch.nan
    losses = native_head.cross_entropy_(logits, torch.tensor([1, 2, 3]), 40, -100)
    assert losses.isnan().tolist() == [False, True, False]
    assert logits.isnan().all(dim=1).tolist() == [False, True, False]


@pytest.mark.parametrize("shape", [(1, 5), (63, 13), (2, 70, 384), (300, 131)], ids=str)
@pytest.mark.parametrize("y_dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("x_dtype", "adds"),
    [(torch.float32, True), (torch.bfloat16, True), (torch.float32, False)],
    ids=["float32 and residual", "bfloat16 and residual", "float32 alone"],
)
def test_layer_norm(
    shape: tuple[int, ...],
    x_dtype: torch.dtype,
    y_dtype: torch.dtype,
    adds: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    x = (2 + torch.randn(shape)).to(x_dtype)
    residual = torch.randn(shape) if adds else None
    weight, bias = 1 + 0.3 * torch.randn(shape[-1]), torch.randn(shape[-1])
    given = [t.requires_grad_() for t in (x, residual, weight, bias) if t is not None]
    grad_r, grad_y = torch.randn(shape), torch.randn(shape).to(y_dtype)
    true = [t.detach().double().requires_grad_() for t in given]
    r_true = true[0] + true[1] if adds else true[0] * 1
    y_true = functional.layer_norm(r_true, shape[-1:], true[-2], true[-1], 1e-5)
    torch.autograd.backward([r_true, y_true], [grad_r.double(), grad_y.double()])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=y_dtype == torch.bfloat16):
        monkeypatch.setattr(native_norm, "FEWEST_ELEMENTS", 1)
        assert native_norm.fits(x, residual, weight, bias)
        r, y = native_norm.add_layer_norm(x, residual, weight, bias, 1e-5)
    torch.autograd.backward([r, y], [grad_r, grad_y])
    assert (r.dtype, y.dtype) == (torch.float32, y_dtype)
    assert _close(r, r_true, torch.float32) and _close(y, y_true, y_dtype)
    for found, truth in zip(given, true, strict=True):
        assert found.grad.dtype == found.dtype
        assert _close(found.grad, truth.grad, found.dtype)


def test_bfloat16_is_rounded_as_torch_does_it() -> None:
    """A weight of zero leaves the bias: ties, their neighbours, infinities and NaN."""
    torch.manual_seed(0)
    high = torch.randint(-(1 << 15), 1 << 15, (4096, 1)) << 16
    bits = (high + torch.tensor([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])).flatten().to(torch.int32)
    bias = bits.view(torch.float32)
    bias = torch.cat([bias[(bias.abs() > 1e-37) | bias.isnan()], torch.tensor([torch.nan] * 2)])
    weight = torch.zeros_like(bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = native_norm.add_layer_norm(torch.randn(3, len(bias)), None, weight, bias, 1e-5)[1]
    torch.testing.assert_close(made, bias.bfloat16().expand(3, -1), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("used", ["r", "y"])
def test_layer_norm_of_which_one_result_is_used(used: str) -> None:
    x, residual = torch.randn(2, 5, 7).transpose(0, 2).bfloat16(), torch.randn(7, 5, 2)
    x, residual = x.requires_grad_(), residual.requires_grad_()
    weight, bias = torch.ones(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    made = dict(zip("ry", native_norm.add_layer_norm(x, residual, weight, bias, 1e-5), strict=True))
    made[used].square().sum().backward()
    true = [t.detach().double().requires_grad_() for t in (x, residual)]
    total = true[0] + true[1]
    (total if used == "r" else functional.layer_norm(total, (2,))).square().sum().backward()
    assert _close(x.grad, true[0].grad, torch.bfloat16) or true[0].grad.norm() < 1e-4
    assert (weight.grad is None) == (used == "r")


def test_the_same_bits_twice_and_by_any_number_of_threads() -> None:
    torch.manual_seed(0)
    x, residual = torch.randn(1000, 131).bfloat16(), torch.randn(1000, 131)
    weight, bias, wide = torch.randn(131), torch.randn(131), torch.randn(300, 1009)
    targets, before = torch.randint(1009, (300,)), torch.get_num_threads()

    def run(threads: int) -> list[Tensor]:
        torch.set_num_threads(threads)
        given = [t.clone().requires_grad_() for t in (x, residual, weight, bias, wide)]
        r, y = native_norm.add_layer_norm(*given[:4], 1e-5)
        gelu = native_gelu.gelu(given[4])
        (r.sum() + y.square().sum() + gelu.square().sum()).backward()
        logits = wide.clone()
        losses = native_head.cross_entropy_(logits, targets, 1009, -100)
        return [r, y, gelu, logits, losses, *(t.grad for t in given)]

    first, *others = [run(threads) for threads in (1, 2, 2, 3)]
    torch.set_num_threads(before)
    for again in others:
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("target", [-1, -101, 997, 1_000_000, -4_000_000_000, 2**40])
def test_a_target_outside_the_vocabulary_is_refused_as_torch_does(
    target: int, dtype: torch.dtype
) -> None:
    logits, targets = torch.randn(4, 1024).to(dtype), torch.tensor([3, -100, target, 996])
    with pytest.raises(IndexError, match=f"Target {target} is out of bounds") as torch_says:
        functional.cross_entropy(logits[:, :997].float(), targets)
    with pytest.raises(IndexError) as found:
        native_head.cross_entropy_(logits, targets, 997, -100)
    assert str(found.value) == str(torch_says.value)
