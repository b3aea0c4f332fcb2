"""Causal attention without a mask, wherever a batch is known to hold no padding.

Scaled dot-product attention takes its flash path only without a mask. Stock transformers tells an
unpadded batch by looking at its values, which makes the CPU wait for the GPU at every step, and
which a traced model cannot do: under `torch.compile` it builds a dense (B, 1, T, T) mask and loses
the flash path (transformers #48925). Here it is told by what the caller gives: no mask, no
positions and no cache means that every row is one whole sequence. Only such a call is changed; any
other goes its stock way, mask and all.

The base model is then given `NO_MASK`, an empty tensor of four dimensions in the place of a mask,
which transformers hands on as it is ("already prepared"), and `config._attn_implementation` names
an attention function of our own that takes it for what it is:
https://huggingface.co/docs/transformers/attention_interface
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from llmkit.errors import UserError
from llmkit.kernels.attention import causal_attention
from llmkit.patches.loan import Forward, Loan, forward_loan, stock_type

WHERE = "patches: attention"
LEAVE_OUT = "leave attention out, or use `patches: auto`"
IMPLEMENTATION = "llmkit_causal"
# Base models that build their mask by `create_causal_mask` from these arguments alone.
FITS = ("GPT2Model", "LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model")
# Given by the caller, any of these may hide tokens or say where documents begin.
DECIDES = ("attention_mask", "position_ids", "cache", "past_key_values", "encoder_hidden_states")


def loans(model: nn.Module) -> list[Loan]:
    """The base model in `model` with its new forward, and its configuration; or UserError."""
    found = [module for module in model.modules() if stock_type(module).__name__ in FITS]
    if len(found) != 1 or not isinstance(found[0], PreTrainedModel):
        what = f"{stock_type(model).__name__} holds {len(found)} models of those it knows, not one"
        raise UserError(WHERE, f"{what} ({', '.join(FITS)})", LEAVE_OUT)
    base = found[0]
    _whole_causal_attention(base.config)
    return [
        # `_attn_implementation` is a property over this attribute.
        Loan(base.config, "_attn_implementation_internal", IMPLEMENTATION),
        forward_loan(base, _forward),
    ]


def _whole_causal_attention(config: Any) -> None:
    """Refuse a configuration under which "no mask" is not plain causal attention."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if config._attn_implementation not in ("sdpa", IMPLEMENTATION):
        what = (
            f"the model attends by {config._attn_implementation!r}, and this patch stands on sdpa"
        )
    elif not getattr(config, "is_causal", True):
        what = "the model is not causal (is_causal: false)"
    elif kinds != {"full_attention"} or _slides(config):
        what = "the model has layers that attend to a window only"
    else:
        return
    raise UserError(WHERE, what, LEAVE_OUT)


def _slides(config: Any) -> bool:
    """Mistral's window counts where it is set; Qwen2's only where `use_sliding_window` says so."""
    window = getattr(config, "sliding_window", None)
    return window is not None and bool(getattr(config, "use_sliding_window", True))


def _forward(self: PreTrainedModel, before: Forward, given: dict[str, Any]) -> Any:
    """Every call goes to `before`; one that is known to be unpadded with NO_MASK."""
    tokens = given.get("input_ids")
    tokens = given.get("inputs_embeds") if tokens is None else tokens
    ours = self.config._attn_implementation == IMPLEMENTATION  # somebody may set another meanwhile
    if ours and tokens is not None and all(given.get(name) is None for name in DECIDES):
        given["attention_mask"] = tokens.new_empty((1, 1, 0, 0))  # NO_MASK
    return before(self, **given)


def attend(
    module: nn.Module,
    query: Tensor,  # (B, H, T, D)
    key: Tensor,  # (B, H or fewer, T, D)
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Stock `sdpa` attention (B, T, H, D), causal without a mask where it is given `NO_MASK`."""
    if attention_mask is not None and attention_mask.numel() == 0:
        attention_mask = None  # and `module.is_causal` holds, as it does in stock
        scale = _plain_scale(module, query, key, kwargs)
        if scale is not None:
            return causal_attention(query, key, value, scale), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def _plain_scale(
    module: nn.Module, query: Tensor, key: Tensor, kwargs: dict[str, Any]
) -> float | None:
    """The factor of the scores where all that is asked for is plain causal attention."""
    if any(kwargs.get(name) for name in ("dropout", "sliding_window", "softcap")):
        return None
    causal = kwargs.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    if not causal or query.shape[2] != key.shape[2]:
        return None
    scale = kwargs.get("scaling")
    return query.shape[-1] ** -0.5 if scale is None else float(scale)


# Any mask but NO_MASK is made as for `sdpa`. Without this line transformers makes none for a name
# that it does not know, and drops padding in silence.
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
AttentionInterface.register(IMPLEMENTATION, attend)
