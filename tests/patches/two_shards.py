"""What `test_sharded.py` has two processes do: a patched model whose weights FSDP2 has spread."""

from __future__ import annotations

import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from tiny_gpt2 import VOCABULARY, tiny_gpt2
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from llmkit.patch import choose, patched


def shard(model: Any, tail: bool) -> None:
    """Each block by itself; with `tail`, embedding, last norm and head together, as accelerate."""
    mesh = init_device_mesh("cpu", (2,))
    for block in model.transformer.h:
        fully_shard(block, mesh=mesh)
    if tail:
        parts = [model.transformer.ln_f, model.transformer.wte, model.lm_head]
        fully_shard(parts, mesh=mesh, reshard_after_forward=False)
    fully_shard(model, mesh=mesh)


def main(early: bool, tail: bool) -> dict[str, Any]:
    """Loss and gradients, patched and in shards (before the patches, or under them), and stock.

    The second of two steps with the same weights, for the first may leave something undone.
    """
    whole = tiny_gpt2()
    whole.loss_type = "ForCausalLM"
    model = copy.deepcopy(whole)
    tokens = torch.randint(0, VOCABULARY, (4, 16), generator=torch.Generator().manual_seed(0))
    rank = torch.distributed.get_rank()
    own = tokens[2 * rank : 2 * rank + 2]
    if early:
        shard(model, tail)
    with patched(model, "auto"):
        if not early:
            shard(model, tail)
        for _ in range(2):
            model.zero_grad()
            loss = model(input_ids=own, labels=own).loss
            loss.backward()
    expected = whole(input_ids=tokens, labels=tokens).loss
    expected.backward()
    torch.distributed.all_reduce(loss.data)
    pairs = zip(model.named_parameters(), whole.parameters(), strict=True)
    off = {
        name: float((weight.grad.full_tensor() - truth.grad).norm() / truth.grad.norm())
        for (name, weight), truth in pairs
    }
    names = choose(model, "auto")
    return {
        "loss": float(loss.detach() / 2),
        "stock": float(expected.detach()),
        "off": off,
        "names": names,
    }


if __name__ == "__main__":
    torch.distributed.init_process_group("gloo")
    found = [main(early, tail) for early in (False, True) for tail in (False, True)]
    if torch.distributed.get_rank() == 0:
        Path(sys.argv[1]).write_text(json.dumps(found))
    os._exit(0)  # gloo's threads abort a process now and then that takes itself down
