"""GPT-2's head and loss without the logits, wherever labels are given.

Replaces `GPT2LMHeadModel.forward` for calls with `labels`; its `logits` are then None. Any other
call (generation, evaluation by logits, `label_smoothing_factor` of the Trainer, which takes the
labels away) goes to the forward that stood there before. TRL's trainers bind a fused head of
their own on the same model, so this patch is for pretraining.
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/gpt2/modeling_gpt2.py
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import MethodType
from typing import Any

from torch import Tensor, nn
from transformers import GPT2LMHeadModel
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.modeling_outputs import CausalLMOutputWithCrossAttentions
from transformers.utils.generic import can_return_tuple

from llmkit.errors import UserError
from llmkit.kernels.fused_head_loss import fused_head_loss
from llmkit.patches.loan import Loan

WHERE = "patches: fused_head_loss"
LEAVE_OUT = "leave fused_head_loss out, or use `patches: auto`"


def loans(model: nn.Module) -> list[Loan]:
    """The one GPT2LMHeadModel in `model` with its new forward; UserError where that cannot be."""
    found = [module for module in model.modules() if type(module) is GPT2LMHeadModel]
    if len(found) != 1:
        kind = type(model).__name__
        raise UserError(WHERE, f"{kind} holds {len(found)} GPT2LMHeadModels, not one", LEAVE_OUT)
    causal_lm = found[0]
    own_loss = getattr(causal_lm, "_loss_function", ForCausalLMLoss) is not ForCausalLMLoss
    # Not by `loss_function`, which warns of the None that stands there for GPT-2.
    if own_loss or causal_lm.loss_type not in (None, "ForCausalLM"):
        raise UserError(WHERE, "the model has a loss function of its own", LEAVE_OUT)
    _plain_head(causal_lm)
    return [Loan(causal_lm, "forward", MethodType(_forward_before(causal_lm.forward), causal_lm))]


def _plain_head(causal_lm: GPT2LMHeadModel) -> nn.Linear:
    """The head, which has to be one whole weight matrix that is used as it stands."""
    head = causal_lm.lm_head
    shape = (causal_lm.config.vocab_size, causal_lm.config.n_embd)
    if type(head) is not nn.Linear or head.bias is not None:
        what = f"lm_head is a {type(head).__name__}, not a linear layer without bias"
    elif "forward" in vars(head) or head._forward_hooks or head._forward_pre_hooks:
        what = "another library has hooked lm_head, which this patch would pass by"
    elif type(head.weight) not in (nn.Parameter, Tensor) or tuple(head.weight.shape) != shape:
        what = f"lm_head.weight is sharded or resized: {tuple(head.weight.shape)}, not {shape}"
    else:
        return head
    raise UserError(WHERE, what, LEAVE_OUT)


def _forward_before(before: Callable[..., Any]) -> Callable[..., Any]:
    """The new forward, which hands every call without labels on to `before`."""

    @functools.wraps(GPT2LMHeadModel.forward)
    def forward(self: GPT2LMHeadModel, *args: Any, **kwargs: Any) -> Any:
        # `fused_lm_head` is how TRL's trainers call the head that they bound before us.
        if kwargs.get("labels") is None or kwargs.get("fused_lm_head"):
            return before(*args, **kwargs)
        return _with_labels(self, *args, **kwargs)

    return forward


@can_return_tuple
def _with_labels(
    self: GPT2LMHeadModel,
    *args: Any,
    labels: Tensor,  # (B, T) int64
    logits_to_keep: int | Tensor = 0,
    **kwargs: Any,
) -> CausalLMOutputWithCrossAttentions:
    if not isinstance(logits_to_keep, int) or logits_to_keep != 0:
        raise UserError(WHERE, "logits_to_keep asks for logits that are never made", LEAVE_OUT)
    head = _plain_head(self)
    outputs = self.transformer(*args, **kwargs)
    ignore_index, shifted = kwargs.get("ignore_index", -100), kwargs.get("shift_labels")
    if shifted is None:
        shifted = nn.functional.pad(labels, (0, 1), value=ignore_index)[..., 1:]
    hidden = outputs.last_hidden_state
    loss = fused_head_loss(
        hidden.reshape(-1, hidden.shape[-1]),
        head.weight,
        shifted.reshape(-1).to(hidden.device),
        kwargs.get("num_items_in_batch"),
        ignore_index,
    )
    return CausalLMOutputWithCrossAttentions(
        loss=loss,
        past_key_values=outputs.past_key_values,
        hidden_states=outputs.hidden_states,
        attentions=outputs.attentions,
        cross_attentions=outputs.cross_attentions,
    )
