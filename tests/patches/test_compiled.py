"""All patches under `torch.compile`, by a backend that needs no compiler: the same gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from llmkit.patch import PATCHES, patched


def _gradients(model: Any, runs: Any, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss = runs(input_ids=ids, labels=ids, num_items_in_batch=torch.tensor(48)).loss
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    return {"loss": loss.detach(), **gradients}


# Dynamo asks the loss for its gradient when it goes on after the head, and hides what torch says.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_a_compiled_patched_model_equals_stock() -> None:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=131, n_positions=24, n_embd=20, n_layer=1, n_head=2, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0, use_cache=False,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    ids = torch.randint(131, (3, 17))
    stock = _gradients(model, model, ids)
    torch._dynamo.reset()
    with patched(model, list(PATCHES)):
        found = _gradients(model, torch.compile(model, backend="aot_eager"), ids)
        torch._dynamo.reset()
    for key, true in stock.items():
        torch.testing.assert_close(found[key], true, atol=1e-6, rtol=1e-4, msg=key)
