"""GPT-2's layer norms in one pass each way, the second of a block with the residual sum before it.

Replaces `GPT2Block.forward`. Under autocast stock writes the norm in float32 and reads it again to
round it for the product that follows; here it is written rounded, by Triton on a GPU and by native
code on a CPU. A block that is given an encoder's states goes its stock way.
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/gpt2/modeling_gpt2.py
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from llmkit.errors import UserError
from llmkit.kernels.layer_norm import add_layer_norm
from llmkit.patches.loan import Forward, Loan, forward_loan, is_hooked, stock_type

WHERE = "patches: layer_norm"
LEAVE_OUT = "leave layer_norm out, or use `patches: auto`"


def loans(model: nn.Module) -> list[Loan]:
    """The GPT-2 blocks of `model` with their fused forward; UserError where it has none."""
    blocks = [module for module in model.modules() if stock_type(module) is GPT2Block]
    if not blocks:
        what = f"{stock_type(model).__name__} has no GPT-2 block"
        raise UserError(WHERE, what, LEAVE_OUT)
    for norm in (norm for block in blocks for norm in (block.ln_1, block.ln_2)):
        if type(norm) is not nn.LayerNorm or is_hooked(norm):
            what = f"a norm is a {type(norm).__name__}, or hooked by another library"
        elif tuple(norm.weight.shape) != tuple(norm.normalized_shape):
            what = "the weights of a norm lie in pieces"
        else:
            continue
        raise UserError(WHERE, what, LEAVE_OUT)
    return [forward_loan(block, _forward) for block in blocks]


def _forward(self: GPT2Block, before: Forward, given: dict[str, Any]) -> Any:
    """A call with an encoder's states goes to `before`, and where a norm has been hooked since."""
    hooked = is_hooked(self.ln_1) or is_hooked(self.ln_2)
    if hooked or given.get("encoder_hidden_states") is not None:
        return before(self, **given)
    return _block(self, **given)


def _block(
    self: GPT2Block,
    hidden_states: Tensor,  # (B, T, E)
    encoder_hidden_states: None = None,
    encoder_attention_mask: Tensor | None = None,
    **kwargs: Any,
) -> Tensor:
    # The norm hands the states on, so that their gradients are added up in its own backward pass.
    hidden_states, normed = _norm(self.ln_1, hidden_states, None)
    attended, _ = self.attn(normed, **kwargs)
    residual, normed = _norm(self.ln_2, attended, hidden_states)
    return residual + self.mlp(normed)


def _norm(norm: nn.LayerNorm, x: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
    return add_layer_norm(x, residual, norm.weight, norm.bias, norm.eps)
