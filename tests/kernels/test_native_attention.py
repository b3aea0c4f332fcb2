"""Native causal attention against float64 truth by another hand, at lengths no block divides."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from llmkit.kernels.attention import causal_attention, native, torch_native
from llmkit.kernels.attention import reference as formula

# B, H, heads of keys, T, D. Blocks are 64 keys and queries, 24 and 6 queries, 16 columns.
SHAPES = [
    (2, 3, 3, 17, 64), (1, 2, 1, 16, 16), (1, 2, 2, 257, 48), (2, 4, 2, 255, 32),
    (1, 6, 2, 100, 128), (2, 2, 2, 64, 80), (1, 1, 1, 61, 16), (1, 2, 2, 513, 64), (1, 1, 1, 1, 64),
]  # fmt: skip
TOLERANCE = 5e-3  # error norm over truth norm; bfloat16 keeps 8 bits

pytestmark = pytest.mark.usefixtures("built", "poisoned")


@pytest.fixture
def built(needs_native: Callable[[str], None]) -> None:
    needs_native("attention")


def _inputs(shape: tuple[int, ...], lies: str = "views") -> list[Tensor]:
    """Queries, keys and values (B, H, T, D), and a gradient (B, T, H, D)."""
    torch.manual_seed(sum(shape))
    batch, heads, kv_heads, length, width = shape
    sizes = [heads * width, kv_heads * width, kv_heads * width]
    buffer = torch.randn(batch, length, sum(sizes)).bfloat16()
    given = [
        part.view(batch, length, -1, width).transpose(1, 2) for part in buffer.split(sizes, dim=-1)
    ]
    if lies == "turned":  # no two elements of a row side by side
        given = [x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in given]
    elif lies == "contiguous":
        given = [x.contiguous() for x in given]
    return [*given, torch.randn(batch, length, heads, width).bfloat16()]


def _results(form: Callable[..., Tensor], given: list[Tensor], scale: float) -> list[Tensor]:
    """The output and the gradients of queries, keys and values."""
    *inputs, gradient = (x.detach() for x in given)
    inputs = [x.requires_grad_() for x in inputs]
    out = form(*inputs, scale)
    out.backward(gradient)
    return [out.detach(), *(x.grad for x in inputs)]


def _truth(given: list[Tensor], scale: float) -> list[Tensor]:
    def by_torch(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        key, value = (
            x.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for x in (key, value)
        )
        mask = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool).tril()
        out = functional.scaled_dot_product_attention(query, key, value, mask, scale=scale)
        return out.transpose(1, 2)

    return _results(by_torch, [x.double() for x in given], scale)


@pytest.mark.parametrize("lies", ["views", "turned", "contiguous"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_output_and_every_gradient(shape: tuple[int, ...], lies: str) -> None:
    given, scale = _inputs(shape, lies), 0.7 * shape[-1] ** -0.5
    found, truth = _results(native.causal_attention, given, scale), _truth(given, scale)
    for name, ours, true in zip(("out", "dq", "dk", "dv"), found, truth, strict=True):
        assert ours.dtype == torch.bfloat16 and ours.shape == true.shape, name
        error = (ours.double() - true).norm() / true.norm().clamp_min(1e-3)
        assert error < TOLERANCE, name
    assert found[0].is_contiguous(), "its reader would have to copy it"


def test_formula_and_torchs_form_equal_truth() -> None:
    given = [x.double() for x in _inputs((2, 4, 2, 33, 16))]
    truth = _truth(given, 0.3)
    for form in (formula.causal_attention, torch_native.causal_attention):
        for found, true in zip(_results(form, given, 0.3), truth, strict=True):
            torch.testing.assert_close(found, true)


def test_large_scores_do_not_overflow_and_what_is_later_is_not_seen() -> None:
    given = _inputs((1, 2, 2, 70, 32))
    given[0] *= 100
    found, truth = _results(native.causal_attention, given, 1.0), _truth(given, 1.0)
    assert (found[0].double() - truth[0]).norm() / truth[0].norm() < TOLERANCE
    changed = [x.clone() for x in given]
    for x in changed[1:3]:
        x[:, :, 41:] *= -1e4
    again = native.causal_attention(*changed[:3], 1.0)
    assert torch.equal(again[:, :41], found[0][:, :41])
    assert not torch.equal(again[:, 41:], found[0][:, 41:])


def test_the_same_bits_twice_and_by_any_number_of_threads() -> None:
    given, before = _inputs((2, 4, 2, 255, 32)), torch.get_num_threads()
    made = []
    for threads in (1, 2, 2, 3):
        torch.set_num_threads(threads)
        made.append(_results(native.causal_attention, given, 0.2))
    torch.set_num_threads(before)
    for again in made[1:]:
        assert all(torch.equal(a, b) for a, b in zip(made[0], again, strict=True))


def test_autocast_takes_float32_and_without_it_float32_is_torchs() -> None:
    query, key, value, gradient = (x.float() for x in _inputs((1, 2, 2, 33, 32)))
    query.requires_grad_()
    assert not native.fits(query, key, value)
    assert causal_attention(query, key, value, 0.2).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert native.fits(query, key, value)
        out = causal_attention(query, key, value, 0.2)
    out.backward(gradient.bfloat16())
    assert out.dtype == torch.bfloat16 and query.grad.dtype == torch.float32
    exact = native.causal_attention(*(x.bfloat16() for x in (query, key, value)), 0.2)
    assert torch.equal(out, exact)


@pytest.mark.parametrize("lowered", [torch.bfloat16, torch.float16], ids=str)
def test_under_autocast_it_answers_in_torchs_dtype(lowered: torch.dtype) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        given = [x.to(dtype) for x in _inputs((1, 2, 2, 33, 32))[:3]]
        with torch.autocast("cpu", dtype=lowered):
            true = functional.scaled_dot_product_attention(*given, is_causal=True)
            assert native.fits(*given) == (true.dtype == torch.bfloat16)
            assert causal_attention(*given, 0.2).dtype == true.dtype


def test_what_is_unusual_is_torchs() -> None:
    query, key, value, _ = _inputs((2, 2, 2, 32, 32))
    assert native.fits(query, key, value)
    assert not native.fits(query[:, :, :8], key[:, :, :8], value[:, :, :8])  # few tokens
    assert not native.fits(query[..., :24], key[..., :24], value[..., :24])
    assert not native.fits(query[:, :, :16], key, value)  # a cache before them
    assert not native.fits(query, key, value.float())
    assert not native.fits(query[0], key[0], value[0])
    assert not native.fits(query, key, value, -0.2)
    assert not native.fits(query.half(), key.half(), value.half())
    short = causal_attention(query[:, :, :8], key[:, :, :8], value[:, :, :8], 0.2)
    whole = causal_attention(query, key, value, 0.2)
    torch.testing.assert_close(short, whole[:, :8], atol=2e-2, rtol=2e-2)


def test_checkpointed_and_expanded_gradients() -> None:
    given = _inputs((2, 2, 2, 33, 32))
    plain = _results(native.causal_attention, given, 0.2)
    again = _results(
        lambda *x: checkpoint(native.causal_attention, *x, use_reentrant=False), given, 0.2
    )
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    query = given[0].detach().requires_grad_()
    native.causal_attention(query, *given[1:3], 0.2).sum().backward()  # a gradient without strides
    ones = torch.ones_like(given[3])
    assert torch.equal(query.grad, _results(native.causal_attention, [*given[:3], ones], 0.2)[1])
