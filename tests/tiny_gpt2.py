"""A small GPT-2 whose continuations differ, and prompts for it."""

from __future__ import annotations

from typing import Any

import torch

VOCABULARY = 97
CONTEXT = 40


def tiny_gpt2(**changes: Any) -> Any:
    """Three layers of width 32, its weights enlarged so that the next token is seldom a toss-up."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(changes.pop("seed", 0))
    config = {
        "vocab_size": VOCABULARY,
        "n_positions": CONTEXT,
        "n_layer": 3,
        "n_head": 4,
        "n_embd": 32,
        "bos_token_id": 0,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    model = GPT2LMHeadModel(GPT2Config(**(config | changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)
            parameter.add_(torch.randn_like(parameter), alpha=0.05)  # biases and norms, too
    return model


def random_prompts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


def random_lengths(count: int, longest: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, longest + 1, (count,), generator=generator).tolist()


def next_logits(model: Any, ids: list[int]) -> torch.Tensor:
    """(V,) by the model's own forward on a single row without padding."""
    with torch.no_grad():
        return model(torch.tensor([ids], device=model.device)).logits[0, -1].float()


def by_hand(model: Any, prompt: list[int], new: int, stops: list[int]) -> tuple[list[int], bool]:
    """Greedy, the whole row anew for every token."""
    ids = list(prompt)
    for _ in range(new):
        ids.append(int(next_logits(model, ids).argmax()))
        if ids[-1] in stops:
            return ids[len(prompt) :], True
    return ids[len(prompt) :], False
