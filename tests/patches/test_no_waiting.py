"""A patched step reads no value of a tensor, so on a GPU the CPU never waits for it."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config, GPT2LMHeadModel

from llmkit.patch import PATCHES, patched

# What `bool(tensor)`, `.item()`, `.tolist()`, `nonzero` and masks as indices come to.
WAITS = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::item")


class Waits(TorchDispatchMode):
    """The operations that a GPU's user would wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in WAITS:
            self.found.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def _waits(model: Any, num_items: Any) -> list[str]:
    ids = torch.randint(131, (3, 17))
    with Waits() as waits:
        model(ids, labels=ids, num_items_in_batch=num_items).loss.backward()
    return waits.found


def test_forward_and_backward_read_no_value() -> None:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=131, n_positions=24, n_embd=20, n_layer=2, n_head=2, bos_token_id=0,
        eos_token_id=0, pad_token_id=1, use_cache=False,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    assert _waits(model, None), "stock waits no more: the test sees nothing"
    with patched(model, list(PATCHES)):
        assert _waits(model, None) == []
        assert _waits(model, torch.tensor(48)) == []
        assert _waits(model, 48) == []
