"""FLOPs of a training token by the two formulas in use, and the MFU that follows from each.

    llm.c     6 N + 6 L C T           half the attention matrix, which is all a causal model needs
              https://github.com/karpathy/llm.c/blob/master/train_gpt2.cu, gpt2_estimate_mfu
    nanoGPT   6 (N - P) + 12 L C T    the whole of it (PaLM, https://arxiv.org/abs/2204.02311, B)
              https://github.com/karpathy/nanoGPT/blob/master/model.py, estimate_mfu

N counts the head once, tied or not, because it is a product of every token; an untied embedding is
looked up and counts in neither. P are the learned positions, L layers, C the width of all query
heads together and T the context. 6 = 2 for the forward and 4 for the backward pass.

MFU = tokens/s x FLOPs a token / peak FLOP/s of all devices. Publish it with tokens/s: the same
speed of GPT-2 124M is 56.2 % by llm.c's formula and 59.9 % by nanoGPT's.
"""

from __future__ import annotations

from typing import Literal

from llmkit.cost.shapes import Shape

Formula = Literal["llm.c", "nanogpt"]
FORWARD = 1 / 3  # of a training token's FLOPs
RECOMPUTED = 1 + FORWARD  # a training token's where activations are recomputed


def flops_per_token(shape: Shape, context: int, formula: Formula = "llm.c") -> int:
    """FLOPs of forward and backward pass for each of `context` tokens a row."""
    multiplied = shape.parameters - (0 if shape.tied else shape.embedding)
    attention = shape.layers * shape.attention_width * context
    if formula == "llm.c":
        return 6 * multiplied + 6 * attention
    return 6 * (multiplied - shape.position_embedding) + 12 * attention


def mfu(flops_a_token: float, tokens_per_second: float, peak_flops: float) -> float:
    """Model FLOPs utilisation, of 1."""
    return flops_a_token * tokens_per_second / peak_flops
