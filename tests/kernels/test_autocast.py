"""The dtype rule against torch's own products, on a CPU and on meta; the operations on meta."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from llmkit.kernels.attention import causal_attention
from llmkit.kernels.autocast import compute_dtype, without_autocast
from llmkit.kernels.fused_head_loss import fused_head_loss
from llmkit.kernels.gelu import gelu
from llmkit.kernels.layer_norm import add_layer_norm
from llmkit.kernels.layer_norm import native as native_norm
from llmkit.kernels.token_log_probs import token_log_probs

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
META = torch.device("meta")


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("lowered", [None, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("dtype", [*FLOATS, torch.int64], ids=str)
def test_it_is_the_dtype_of_torchs_product(
    dtype: torch.dtype, lowered: torch.dtype | None, device: str
) -> None:
    x = torch.ones(3, 3, dtype=dtype, device=device)
    with torch.autocast("cpu", dtype=lowered, enabled=lowered is not None):
        assert compute_dtype(x.dtype, x.device) == (x @ x).dtype


def test_it_is_asked_of_the_tensors_own_device() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert compute_dtype(torch.float32, torch.device("cuda", 1)) == torch.float32


def test_without_autocast_a_product_keeps_its_dtype() -> None:
    x = torch.ones(3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with without_autocast(x.device):
            assert (x @ x).dtype == compute_dtype(x.dtype, x.device) == torch.float32
        assert (x @ x).dtype == torch.bfloat16
        with without_autocast(META):  # is none of the CPU's business
            assert (x @ x).dtype == torch.bfloat16


@pytest.mark.parametrize("on", [False, True], ids=["plain", "autocast"])
def test_every_operation_takes_tensors_without_memory(on: bool) -> None:
    torch.manual_seed(0)
    x = torch.empty(300, 400, device=META, requires_grad=True)  # enough that native code would run
    weight, bias = (torch.empty(400, device=META, requires_grad=True) for _ in "wb")
    head = torch.empty(7, 400, device=META, requires_grad=True)
    targets = torch.zeros(300, dtype=torch.int64, device=META)
    states = torch.empty(2, 2, 32, 32, device=META, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=on):
        _, normed = add_layer_norm(x, x, weight, bias, 1e-5)
        loss = fused_head_loss(gelu(normed), head, targets)
        log_probs, entropy = token_log_probs(x, head, targets)
        attended = causal_attention(states, states, states, 1.0)
        (loss + log_probs.sum() + entropy.sum() + attended.sum()).backward()
    for given in (x, weight, bias, head, states):
        assert given.grad is not None and given.grad.shape == given.shape
        assert given.grad.is_meta and given.grad.dtype == torch.float32
    assert normed.shape == x.shape and attended.shape == (2, 32, 2, 32)


def test_float64_is_not_lowered() -> None:
    """As torch has it; a check of gradients by finite differences may stand inside autocast."""
    torch.manual_seed(0)
    hidden = torch.randn(5, 4, dtype=torch.float64)
    head = torch.randn(9, 4, dtype=torch.float64)
    targets = torch.randint(9, (5,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = functional.linear(hidden, head)
        log_probs, _ = token_log_probs(hidden, head, targets)
    true = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    # Rounded once to float32; in bfloat16 they would be off by some thousandths.
    torch.testing.assert_close(log_probs.double(), true, rtol=1e-6, atol=1e-6)


def test_a_norm_goes_out_in_the_dtype_of_the_product_that_follows() -> None:
    x, weight, bias = torch.randn(256, 256), torch.ones(256), torch.zeros(256)
    for lowered, fits in ((torch.bfloat16, True), (torch.float16, False)):
        with torch.autocast("cpu", dtype=lowered):
            assert native_norm.fits(x, None, weight, bias) is fits
    assert native_norm.fits(x, None, weight, bias)
