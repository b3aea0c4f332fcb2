"""GPT-2, one token of every row at a time, over keys and values that are kept in place.

The modules of the model are called as they stand, so weights, LoRA, dtype and device are the
model's own. What is saved against `generate` is everything around them: masks, position ids, cache
objects and outputs that are built anew for every token. Attention is
softmax(q k^T * scaling + mask) v, https://arxiv.org/abs/1706.03762, section 3.2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

PROMPT_TOKENS = 2**13  # read at once at most: bounds the memory of what lies between the layers
FULL_SPEED = 512  # tokens read at once, from which on more of them are no faster
PADDED = 9 / 8  # so much longer than the shortest may a prompt be that is read with it
STEPS_AHEAD = 64  # that the cache has room for before it grows by half

Attend = Callable[[int, Tensor], Tensor]


class GPT2Decoder:
    """Rows of one batch: `read` their prompts, then `step` by step.

    A prompt of n tokens lies in the columns 0 to n - 1 of the cache, a new token in the next column
    after the longest prompt; the columns between are masked. So prompts are read with a plain
    causal mask, and every row writes to the same column. Positions are each row's own.

    Attributes:
        lengths: (B,) tokens of each row's prompt.
        width: of the longest prompt.
        filled: columns of the cache that hold something.
        caches: for each layer (2, B, H, C, D), keys and values.
        mask: (B, 1, 1, C), 0 or -inf, added to the scores; None where no column is masked.
    """

    def __init__(self, model: Any, new_tokens: int) -> None:
        self.model, self.trunk = model, model.transformer
        self.heads = model.config.num_attention_heads
        self.new_tokens = new_tokens
        self.caches: list[Tensor] = []
        self.mask: Tensor | None = None

    def read(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """(B, V) float32 logits of the token after each prompt. Equal prompts are read once."""
        device = self.model.device
        unique = sorted({tuple(prompt) for prompt in prompts}, key=lambda ids: (len(ids), ids))
        number = {ids: index for index, ids in enumerate(unique)}
        self.source = torch.tensor([number[tuple(prompt)] for prompt in prompts])
        self.lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        self.width = self.filled = len(unique[-1])
        logits, begin = [], 0
        for chunk in _chunks(unique):
            logits.append(self._read_chunk(chunk, begin))
            begin += len(chunk)
        if len(unique[0]) < self.width:
            self.mask = self._mask(self.caches[0])
        return torch.cat(logits)[self.source.to(device)]

    def _read_chunk(self, chunk: Sequence[Sequence[int]], begin: int) -> Tensor:
        """(U, V) logits after U prompts that no other row has, whose first is number `begin`."""
        device = self.model.device
        width = len(chunk[-1])
        ids = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in chunk], device=device)
        mine = (self.source >= begin) & (self.source < begin + len(chunk))
        rows = mine.nonzero()[:, 0].to(device)
        which = (self.source[mine] - begin).to(device)

        def attend(layer: int, qkv: Tensor) -> Tensor:
            query, both = self._split(qkv)
            if len(self.caches) == layer:
                columns = self.width + min(self.new_tokens, STEPS_AHEAD)
                shape = (2, len(self.source), self.heads, columns, query.shape[-1])
                # Zeros, for a masked column counts 0 times what stands in it, and 0 x NaN is NaN.
                self.caches.append(torch.zeros(shape, dtype=qkv.dtype, device=device))
            self.caches[layer][:, rows, :, :width] = both[:, which]
            scale = self.trunk.h[layer].attn.scaling
            return scaled_dot_product_attention(
                query, both[0], both[1], is_causal=True, scale=scale
            )

        hidden = self._layers(ids, torch.arange(width, device=device), attend)
        last = torch.tensor([len(ids) - 1 for ids in chunk], device=device)
        return self._logits(hidden[torch.arange(len(chunk), device=device), last])

    def step(self, tokens: Tensor) -> Tensor:
        """(B, V) float32 logits after one more token of each row, (B,)."""
        if self.filled == self.caches[0].shape[3]:
            self._grow()
        column, end = self.filled, self.filled + 1
        mask = None if self.mask is None else self.mask[..., :end]

        def attend(layer: int, qkv: Tensor) -> Tensor:
            query, both = self._split(qkv)
            cache = self.caches[layer]
            cache.select(3, column).copy_(both.select(3, 0))
            keys, values = cache.narrow(3, 0, end).unbind()
            scale = self.trunk.h[layer].attn.scaling
            return scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scale)

        positions = (self.lengths + (column - self.width))[:, None]
        hidden = self._layers(tokens[:, None], positions, attend)
        self.filled = end
        return self._logits(hidden[:, 0])

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these (their numbers in the present batch)."""
        self.lengths = self.lengths[rows]
        self.mask = None if self.mask is None else self.mask[rows]
        for layer, cache in enumerate(self.caches):  # one after the other, to hold one twice only
            self.caches[layer] = cache.index_select(1, rows)

    def _layers(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """(B, T, E) after the last layer, before the last norm."""
        hidden = self.trunk.wte(ids) + self.trunk.wpe(positions)
        for layer, block in enumerate(self.trunk.h):
            attended = attend(layer, block.attn.c_attn(block.ln_1(hidden)))
            hidden += block.attn.c_proj(attended.transpose(1, 2).flatten(2))
            hidden += block.mlp(block.ln_2(hidden))
        return hidden

    def _split(self, qkv: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, 3 E) -> queries (B, H, T, D), keys and values (2, B, H, T, D)."""
        parts = qkv.view(*qkv.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return parts.select(0, 0), parts.narrow(0, 1, 2)

    def _logits(self, hidden: Tensor) -> Tensor:
        return self.model.lm_head(self.trunk.ln_f(hidden)).float()

    def _mask(self, cache: Tensor) -> Tensor:
        columns = torch.arange(cache.shape[3], device=cache.device)
        unused = (columns >= self.lengths[:, None]) & (columns < self.width)
        empty = torch.zeros(unused.shape, dtype=cache.dtype, device=cache.device)
        return empty.masked_fill_(unused, float("-inf"))[:, None, None]

    def _grow(self) -> None:
        room = self.width + self.new_tokens
        extra = min(self.filled + max(STEPS_AHEAD, self.filled // 2), room) - self.filled
        for layer, cache in enumerate(self.caches):
            self.caches[layer] = pad(cache, (0, 0, 0, extra))
        self.mask = None if self.mask is None else pad(self.mask, (0, extra))


def _chunks(prompts: Sequence[Sequence[int]]) -> Iterator[Sequence[Sequence[int]]]:
    """Prompts, shortest first, in lots that are padded little and hold PROMPT_TOKENS at most."""
    begin = 0
    for end in range(1, len(prompts)):
        longest = len(prompts[end])
        padded = longest > PADDED * len(prompts[begin]) and (end - begin) * longest > FULL_SPEED
        if padded or (end + 1 - begin) * longest > PROMPT_TOKENS:
            yield prompts[begin:end]
            begin = end
    yield prompts[begin:]
