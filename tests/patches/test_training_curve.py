"""200 steps of training with every patch follow 200 steps without.

The bound on the difference is measured in the same run: two stock trainings that differ only in
the rounding of their first weights (one unit in the last place of float32) drift apart by the noise
that training itself makes of rounding. The patched curve has to stay within ten times that, and in
any case within 0.01 nats at every step in float32, and within 0.02 nats on average in bfloat16.
Once by torch's forms of the operations, and once by native code where the machine has it.
"""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from llmkit.device import cpu_flags
from llmkit.kernels import native
from llmkit.patch import PATCHES, patched

STEPS = 200


def _curve(names: list[str], dtype: torch.dtype | None, nudge: float = 0.0) -> torch.Tensor:
    """The loss of each step (STEPS,) on sequences that can be learned: each counts upwards."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=97, n_positions=32, n_embd=32, n_layer=2, n_head=2, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0, use_cache=False,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + nudge)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    with patched(model, names):
        for step in range(STEPS):
            torch.manual_seed(step)
            starts, strides = torch.randint(97, (8, 1)), torch.randint(1, 4, (8, 1))
            ids = (starts + strides * torch.arange(32)) % 97
            with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
                loss = model(ids, labels=ids).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.detach())
    return torch.stack(losses)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["torch", "native"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "bfloat16"])
def test_patched_training_follows_stock(
    dtype: torch.dtype | None, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "torch":
        monkeypatch.setattr(native, "available", lambda op: False)
    elif reason := native.refusal("attention", cpu_flags()):
        pytest.skip(reason)
    monkeypatch.setattr("llmkit.kernels.layer_norm.native.FEWEST_ELEMENTS", 1)
    stock, nudged = _curve([], dtype), _curve([], dtype, nudge=2**-23)
    noise = (nudged - stock).abs().max()
    difference = (_curve(list(PATCHES), dtype) - stock).abs()
    assert stock[-10:].mean() < 0.5 * stock[0], "nothing was learned"
    assert difference.max() < max(10 * noise, 1e-4), f"noise {noise:.1e}"
    assert difference.max() < 0.01 if dtype is None else difference.mean() < 0.02
