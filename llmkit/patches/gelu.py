"""GPT-2's activation, spelled in eight operations in transformers, by one fused kernel.

Replaces `NewGELUActivation.forward`:
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/activations.py
"""

from __future__ import annotations

from types import MethodType

from torch import Tensor, nn
from transformers.activations import NewGELUActivation

from llmkit.errors import UserError
from llmkit.kernels.gelu import gelu
from llmkit.patches.loan import Loan, stock_type


def loans(model: nn.Module) -> list[Loan]:
    """The activations of `model` with their fused forward; UserError where it has none."""
    found = [module for module in model.modules() if stock_type(module) is NewGELUActivation]
    if not found:
        raise UserError(
            "patches: gelu",
            f"{stock_type(model).__name__} has no tanh-form GELU spelled out (gelu_new) to replace",
            "leave gelu out, or use `patches: auto`",
        )
    return [Loan(module, "forward", MethodType(_forward, module)) for module in found]


def _forward(self: nn.Module, input: Tensor) -> Tensor:
    return gelu(input)
