"""What our loop decodes exactly as `generate` would; anything else is left to `generate`.

The loop calls the modules that hold weights and passes by the `forward` of those around them, so
whatever another library has bound or hooked there would be lost. Each such thing is a reason.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, GPT2LMHeadModel, PreTrainedModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention, GPT2Block, GPT2Model

log = logging.getLogger("llmkit")

# What the loop honours, and what has no meaning for it.
HONOURED = {"do_sample", "temperature", "top_k", "top_p", "min_p", "max_new_tokens", "eos_token_id"}
MEANINGLESS = {"pad_token_id", "bos_token_id", "decoder_start_token_id", "transformers_version"}
MEANINGLESS |= {"_from_model_config", "use_cache", "max_length", "max_cache_len"}
MEANINGLESS |= {"compile_config", "disable_compile", "prefill_chunk_size"}
# Of more beams than one, or of an assistant, which are themselves refused.
MEANINGLESS |= {"early_stopping", "length_penalty", "num_beam_groups", "diversity_penalty"}
MEANINGLESS |= {"num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_lookbehind"}
MEANINGLESS |= {"assistant_confidence_threshold", "target_lookbehind"}

# A setting that is None, False or one of these does nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "repetition_penalty": (1.0,),
    "encoder_repetition_penalty": (1.0,),
    "guidance_scale": (1.0,),
    "typical_p": (1.0,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "cache_implementation": ("dynamic", "static"),
}

# Attention that is the plain formula, however it is computed.
PLAIN_ATTENTION = {"sdpa", "eager", "flash_attention_2", "flash_attention_3", "llmkit_causal"}
# Where a `forward` comes from that changes nothing unless labels are given.
LOSS_ONLY = {"trl.trainer.utils"}
LOAN = "llmkit.patches.loan"  # our patches compute what stock does, on whichever module
AUTOCAST = "accelerate.utils.operations"


def supports(model: Any, config: GenerationConfig) -> bool:
    """Whether our loop decodes as `generate` would; `why_not` has the reason."""
    return not why_not(model, config)


def why_not(model: Any, config: GenerationConfig) -> str:
    """The first thing that our loop cannot do exactly; nothing where it can do all."""
    return next(_model_reasons(model), "") or next(_config_reasons(config), "")


@functools.cache
def tell_once(reason: str) -> None:
    log.info("decoding by transformers' generate: %s", reason)


def bare(model: Any) -> Any:
    """The transformers model inside a PeftModel; any other as it is."""
    if isinstance(model, PreTrainedModel):
        return model
    from peft import PeftModel

    return model.get_base_model() if isinstance(model, PeftModel) else model


def _config_reasons(config: GenerationConfig) -> Iterator[str]:
    if config.max_new_tokens is None or config.max_new_tokens < 1:
        yield f"max_new_tokens is {config.max_new_tokens}"
    for key, value in config.to_dict().items():
        known = key in HONOURED or key in MEANINGLESS or value in (None, False)
        if not known and value not in NEUTRAL.get(key, ()):
            yield f"{key} is {value}"


def _model_reasons(model: Any) -> Iterator[str]:
    base = bare(model)
    if type(base) is not GPT2LMHeadModel or type(base.transformer) is not GPT2Model:
        yield f"{type(base).__name__} is no plain GPT2LMHeadModel"
        return
    yield from _adapter_reasons(model, base)
    config = base.config
    if config._attn_implementation not in PLAIN_ATTENTION:
        yield f"its attention is {config._attn_implementation}"
    if config.add_cross_attention:
        yield "it has cross-attention"
    if config.reorder_and_upcast_attn and config._attn_implementation == "eager":
        yield "its attention is upcast (reorder_and_upcast_attn)"
    for block in base.transformer.h:
        if type(block) is not GPT2Block or type(block.attn) is not GPT2Attention:
            yield f"a layer is a {type(block).__name__} with {type(block.attn).__name__}"
    yield from _bypass_reasons(model, base)


def _adapter_reasons(model: Any, base: Any) -> Iterator[str]:
    """LoRA lies in the modules that are called; other adapters may need more than their call."""
    adapters = vars(base).get("peft_config", {}) if model is base else model.peft_config
    for name, adapter in adapters.items():
        if adapter.peft_type != "LORA":
            yield f"adapter {name} is {adapter.peft_type.value}, not LORA"
        elif adapter.alora_invocation_tokens is not None:
            yield f"adapter {name} is an activated LoRA"


def _bypass_reasons(model: Any, base: Any) -> Iterator[str]:
    """What was bound or hooked on the modules whose own `forward` the loop does not call."""
    outer = [base] if model is base else [base, model, model.base_model]
    inner = [base.transformer, *base.transformer.h, *(block.attn for block in base.transformer.h)]
    for module in [*outer, *inner]:
        name = type(module).__name__
        if module._forward_hooks or module._forward_pre_hooks:
            yield f"{name} has hooks"
        if "forward" in vars(module):
            known = LOSS_ONLY if module in outer else set()
            yield from (f"{name}: {what}" for what in _strangers(module, module.forward, known))


def _strangers(module: nn.Module, forward: Any, known: set[str]) -> Iterator[str]:
    """The functions that are bound as `forward`, one over the other, and are none of `known`.

    Nor patches of ours.
    """
    function = forward.__func__ if isinstance(forward, MethodType) else forward
    if function is type(module).forward:
        return
    plain = isinstance(function, FunctionType)
    origin = function.__globals__["__name__"] if plain else type(function).__name__
    if origin == AUTOCAST and known:
        if not torch.is_autocast_enabled(next(module.parameters()).device.type):
            yield "accelerate's autocast, into which the call must be put"
        before = [vars(module)["_original_forward"]]
    elif origin == LOAN:
        before = [vars(function)["stood_before"]]
    elif origin in known:
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        before = [inner for inner in cells if isinstance(inner, MethodType)]
    else:
        yield f"its forward is bound by {origin}"
        return
    for inner in before:
        if inner.__self__ is module:
            yield from _strangers(module, inner, known)
