"""Head and loss of a causal language model without the logits, wherever labels are given.

Replaces the causal model's `forward` for calls with `labels`; its `logits` are then None. Any other
call (generation, evaluation by logits, `label_smoothing_factor` of the Trainer, which takes the
labels away) goes to the forward that stood there before. TRL's trainers bind a fused head of
their own on the same model, so this patch is for pretraining.

With `output_log_probs=True` beside the labels the output also holds `log_probs` and `entropy` of
each predicted token, shaped as TRL's `FusedCausalLMOutput`, with gradients.
https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/gpt2/modeling_gpt2.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.modeling_outputs import (
    CausalLMOutputWithCrossAttentions,
    CausalLMOutputWithPast,
)
from transformers.utils.generic import can_return_tuple

from llmkit.errors import UserError
from llmkit.kernels.fused_head_loss import fused_head_loss
from llmkit.kernels.token_log_probs import token_log_probs
from llmkit.patches.loan import Forward, Loan, forward_loan, is_hooked, is_spread, stock_type

WHERE = "patches: fused_head_loss"
LOG_PROBS = ("log_probs", "entropy")
LEAVE_OUT = "leave fused_head_loss out, or use `patches: auto`"
# Causal models whose logits are `lm_head` of the base model's last hidden state, and nothing more.
OUTPUTS: dict[str, type] = {
    "GPT2LMHeadModel": CausalLMOutputWithCrossAttentions,
    "LlamaForCausalLM": CausalLMOutputWithPast,
    "MistralForCausalLM": CausalLMOutputWithPast,
    "Qwen2ForCausalLM": CausalLMOutputWithPast,
    "Qwen3ForCausalLM": CausalLMOutputWithPast,
}


@dataclass
class LogProbsOutput(CausalLMOutputWithCrossAttentions):
    """What a call with `output_log_probs=True` returns.

    Attributes:
        log_probs: log-probability of each next-token label in nats, (B, T - 1), or (B, T) with
            `shift_labels`; 0 where the label does not count.
        entropy: of the next-token distribution in nats, likewise.
    """

    log_probs: Tensor | None = None
    entropy: Tensor | None = None


def loans(model: nn.Module) -> list[Loan]:
    """The one causal model in `model` with its new forward; UserError where that cannot be."""
    found = [module for module in model.modules() if stock_type(module).__name__ in OUTPUTS]
    if len(found) != 1 or not isinstance(found[0], PreTrainedModel):
        what = f"holds {len(found)} causal models of those it knows, not one"
        known = f"{stock_type(model).__name__} {what} ({', '.join(OUTPUTS)})"
        raise UserError(WHERE, known, LEAVE_OUT)
    causal_lm = found[0]
    own_loss = getattr(causal_lm, "_loss_function", ForCausalLMLoss) is not ForCausalLMLoss
    # Not by `loss_function`, which warns of the None that stands there for GPT-2.
    if own_loss or causal_lm.loss_type not in (None, "ForCausalLM"):
        raise UserError(WHERE, "the model has a loss function of its own", LEAVE_OUT)
    _plain_head(causal_lm)
    return [forward_loan(causal_lm, _forward)]


def _plain_head(causal_lm: PreTrainedModel, called: bool = False) -> nn.Linear:
    """The head, which has to be one whole weight matrix that is used as it stands.

    What FSDP2 has spread is whole when the model is `called`; where it has spread the head by
    itself, in a call of the head, through whose hooks `_in_the_head` goes.
    """
    head = causal_lm.lm_head
    shape, spread = (causal_lm.config.vocab_size, causal_lm.config.hidden_size), is_spread(head)
    hooked = not spread and is_hooked(head)
    later = spread or (is_spread(causal_lm) and not called)
    whole = later or type(head.weight) in (nn.Parameter, Tensor)
    if stock_type(head) is not nn.Linear or head.bias is not None:
        kind = f"{stock_type(head).__module__}.{stock_type(head).__name__}"
        what = f"lm_head is a {kind}, not a linear layer without bias"
    elif "forward" in vars(head) or hooked:
        what = "another library has hooked lm_head, which this patch would pass by"
    elif not whole or tuple(head.weight.shape) != shape:
        what = f"lm_head.weight is sharded or resized: {tuple(head.weight.shape)}, not {shape}"
    else:
        return head
    raise UserError(WHERE, what, LEAVE_OUT)


def _forward(self: PreTrainedModel, before: Forward, given: dict[str, Any]) -> Any:
    """Every call without labels goes to `before`."""
    # `fused_lm_head` is how TRL's trainers call the head that they bound before us.
    if given.get("labels") is None or given.get("fused_lm_head"):
        return before(self, **given)
    return _with_labels(self, **given)


@can_return_tuple
def _with_labels(
    self: PreTrainedModel,
    *,
    labels: Tensor,  # (B, T) int64
    logits_to_keep: int | Tensor = 0,
    label_smoothing: float = 0.0,
    output_log_probs: bool = False,
    **kwargs: Any,
) -> Any:
    if not isinstance(logits_to_keep, int) or logits_to_keep != 0:
        raise UserError(WHERE, "logits_to_keep asks for logits that are never made", LEAVE_OUT)
    if label_smoothing:
        raise UserError(WHERE, "label smoothing needs the logits, which are never made", LEAVE_OUT)
    head = _plain_head(self, called=True)
    outputs = self.base_model(**kwargs)
    ignore_index, shifted = kwargs.get("ignore_index", -100), kwargs.get("shift_labels")
    if shifted is None:
        shifted = nn.functional.pad(labels, (0, 1), value=ignore_index)[..., 1:]
    hidden = outputs.last_hidden_state
    rows, targets = hidden.reshape(-1, hidden.shape[-1]), shifted.reshape(-1).to(hidden.device)
    counted = (kwargs.get("num_items_in_batch"), ignore_index)
    if output_log_probs:
        end = None if kwargs.get("shift_labels") is not None else -1  # the last predicts nothing
        found = _in_the_head(head, rows, partial(_loss_and_log_probs, targets, *counted))
        made = found | {key: found[key].view(shifted.shape)[:, :end] for key in LOG_PROBS}
        return _output(LogProbsOutput, outputs, **made)
    loss = _in_the_head(
        head, rows, lambda hidden, weight: fused_head_loss(hidden, weight, targets, *counted)
    )
    return _output(OUTPUTS[stock_type(self).__name__], outputs, loss=loss)


def _in_the_head(head: nn.Linear, hidden: Tensor, work: Callable[[Tensor, Tensor], Any]) -> Any:
    """What `work` makes of the hidden states and the head's weight.

    Where FSDP2 has spread the weight it is whole only in a call of the head, whose hooks also
    count the calls; so the work takes the place of its product for one.
    """
    if not is_spread(head):
        return work(hidden, head.weight)
    with Loan(head, "forward", lambda rows: work(rows, head.weight)).lent():
        return head(hidden)


def _loss_and_log_probs(
    targets: Tensor,
    num_items: Tensor | float | None,
    ignore_index: int,
    hidden: Tensor,
    weight: Tensor,
) -> dict[str, Tensor]:
    """The same loss as `fused_head_loss` gives, from the log-probabilities that are asked for."""
    log_probs, entropy = token_log_probs(hidden, weight, targets, ignore_index)
    divisor = (targets != ignore_index).sum() if num_items is None else num_items
    return {"loss": -log_probs.sum() / divisor, "log_probs": log_probs, "entropy": entropy}


def _output(kind: type, outputs: Any, **made: Any) -> Any:
    """An output of `kind` with what was `made`, and what the base model's output holds besides."""
    known = {field.name for field in fields(kind)}
    return kind(**{key: value for key, value in outputs.items() if key in known}, **made)
