"""litgpt's pretraining (https://github.com/Lightning-AI/litgpt) of a model of the same size.

What `litgpt pretrain` does on a CPU by its defaults: bfloat16 by autocast, `torch.compile`,
cross-entropy in chunks of 128 rows, AdamW that is not fused, clipping. Its model is its own: rotary
positions in the place of learnt ones, the head tied as in GPT-2, its own first weights.
"""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from typing import Any

import torch
from lightning import Fabric
from litgpt.config import Config
from litgpt.model import GPT
from litgpt.utils import chunked_cross_entropy


def make_model(layers: int, width: int, heads: int, vocab_size: int, context: int) -> GPT:
    config = Config(
        block_size=context, vocab_size=vocab_size, padded_vocab_size=vocab_size, n_layer=layers,
        n_head=heads, n_embd=width, intermediate_size=4 * width, rotary_percentage=0.25,
        parallel_residual=False, norm_class_name="LayerNorm", mlp_class_name="GptNeoxMLP",
        gelu_approximate="tanh", bias=True, lm_head_bias=False,
    )  # fmt: skip
    model = GPT(config)
    model.transformer.wte.weight = model.lm_head.weight
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.02)
    return model


def take_steps(pipe: Connection, model: GPT, rows: torch.Tensor, batch: int) -> None:
    """A step for each word that comes through `pipe`; answers with (seconds, loss)."""
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    runs: Any = fabric.setup(torch.compile(model))
    optimizer = fabric.setup_optimizers(torch.optim.AdamW(runs.parameters(), lr=1e-4))
    for ids in rows.split(batch):
        pipe.recv()
        began = time.perf_counter()
        loss = chunked_cross_entropy(runs(ids[:, :-1].contiguous()), ids[:, 1:].contiguous())
        fabric.backward(loss)
        fabric.clip_gradients(runs, optimizer, max_norm=1.0)
        optimizer.step()
        optimizer.zero_grad()
        pipe.send((time.perf_counter() - began, loss.item()))
