"""A plain GPT-2 as people write it themselves, for `pretraining_cpu.py` to be measured against.

Linear layers, causal attention without a mask, tanh GELU, tied head, cross-entropy over whole
logits: what nanoGPT (https://github.com/karpathy/nanoGPT) makes of the model, without its options.
It takes the weights of a `GPT2LMHeadModel`, so that both give the same loss.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GPT2LMHeadModel


class Block(nn.Module):
    """Attention and feed-forward, each after a norm and beside a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, E)
        batch, length, width = x.shape
        parts = self.qkv(self.ln_1(x)).view(batch, length, 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        hidden = functional.gelu(self.up(self.ln_2(x)), approximate="tanh")
        return x + self.down(hidden)


class PeerGPT(nn.Module):
    """The language model; `forward` gives the mean loss of predicting each next token."""

    def __init__(self, model: GPT2LMHeadModel) -> None:
        super().__init__()
        config = model.config
        self.tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.positions = nn.Embedding(config.n_positions, config.n_embd)
        self.blocks = nn.ModuleList(
            Block(config.n_embd, config.n_head) for _ in range(config.n_layer)
        )
        self.ln_f = nn.LayerNorm(config.n_embd)
        self._take(model)

    @torch.no_grad()
    def _take(self, model: GPT2LMHeadModel) -> None:
        theirs = model.transformer
        copies: list[tuple[nn.Module, nn.Module]] = [
            (self.tokens, theirs.wte), (self.positions, theirs.wpe), (self.ln_f, theirs.ln_f),
        ]  # fmt: skip
        for own, block in zip(self.blocks, theirs.h, strict=True):
            copies += [
                (own.ln_1, block.ln_1), (own.ln_2, block.ln_2),
                (own.qkv, block.attn.c_attn), (own.out, block.attn.c_proj),
                (own.up, block.mlp.c_fc), (own.down, block.mlp.c_proj),
            ]  # fmt: skip
        for own_layer, layer in copies:
            for name, parameter in own_layer.named_parameters():
                value = getattr(layer, name)
                turned = isinstance(own_layer, nn.Linear) and name == "weight"  # a Conv1D there
                parameter.copy_(value.T if turned else value)

    def forward(self, ids: Tensor) -> Tensor:  # (B, T) int64
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.ln_f(x), self.tokens.weight)[:, :-1]
        return functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
