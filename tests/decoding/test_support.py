"""What is left to transformers' `generate`, with the reason; and what need not be."""

from __future__ import annotations

import logging
from types import MethodType
from typing import Any

import pytest
import torch
from tiny_gpt2 import random_prompts, tiny_gpt2
from transformers import GenerationConfig

from llmkit.decode import sample
from llmkit.decoding.support import supports, tell_once, why_not
from llmkit.patch import patched

# peft asks a model for what transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

PLAIN = {"max_new_tokens": 6, "pad_token_id": 0}


def plain(**settings: Any) -> GenerationConfig:
    return GenerationConfig(**(PLAIN | settings))


def decoded(model: Any, **settings: Any) -> list[list[int]]:
    return sample(model, random_prompts([3, 9, 5]), plain(**settings)).ids


def generated(model: Any, **settings: Any) -> list[list[int]]:
    """By `generate` itself, each prompt alone."""
    found = []
    for prompt in random_prompts([3, 9, 5]):
        ids = torch.tensor([prompt])
        given = {"attention_mask": torch.ones_like(ids), "generation_config": plain(**settings)}
        found.append(model.generate(ids, **given)[0, len(prompt) :].tolist())
    return found


def lora(model: Any, **settings: Any) -> Any:
    import peft

    given = {"r": 4, "target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**(given | settings)))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.copy_(torch.randn(parameter.shape))
    return wrapped.eval()


def test_a_plain_model_and_all_that_generate_takes_for_neutral() -> None:
    model = tiny_gpt2()
    assert supports(model, plain()) and why_not(model, plain()) == ""
    neutral = GenerationConfig()._get_default_generation_params() | PLAIN
    assert why_not(model, GenerationConfig(**neutral)) == ""
    sampling = {"do_sample": True, "temperature": 0.7, "top_k": 5, "top_p": 0.9, "min_p": 0.1}
    assert why_not(model, plain(**sampling, eos_token_id=[3, 4], use_cache=False)) == ""


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"repetition_penalty": 1.3}, "repetition_penalty is 1.3"),
        ({"num_beams": 2}, "num_beams is 2"),
        ({"no_repeat_ngram_size": 2}, "no_repeat_ngram_size is 2"),
        ({"bad_words_ids": [[3]]}, "bad_words_ids"),
        ({"suppress_tokens": [1, 2]}, "suppress_tokens"),
        ({"min_new_tokens": 3, "eos_token_id": 0}, "min_new_tokens is 3"),
        ({"typical_p": 0.5, "do_sample": True}, "typical_p is 0.5"),
        ({"stop_strings": ["x"]}, "stop_strings"),
        ({"cache_implementation": "quantized"}, "cache_implementation is quantized"),
        ({"max_new_tokens": None}, "max_new_tokens is None"),
        ({"setting_of_the_future": 7}, "setting_of_the_future is 7"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_settings_that_are_left_to_generate(settings: dict[str, Any], reason: str) -> None:
    assert reason in why_not(tiny_gpt2(), plain(**settings))


@pytest.mark.parametrize("settings", [{"repetition_penalty": 1.8}, {"num_beams": 3}], ids=str)
def test_what_is_left_to_generate_is_what_generate_says(settings: dict[str, Any]) -> None:
    model = tiny_gpt2()
    found = decoded(model, **settings)
    assert found == generated(model, **settings)
    assert found != decoded(model)


def test_another_architecture() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "head_dim": 8}
    config |= {"num_hidden_layers": 1, "num_attention_heads": 4, "max_position_embeddings": 64}
    model = LlamaForCausalLM(LlamaConfig(**config)).eval()
    assert why_not(model, plain()) == "LlamaForCausalLM is no plain GPT2LMHeadModel"
    assert decoded(model) == generated(model)


def test_a_subclass_may_compute_something_else() -> None:
    from transformers import GPT2LMHeadModel

    class Louder(GPT2LMHeadModel):
        pass

    assert "Louder" in why_not(Louder(tiny_gpt2().config), plain())


@pytest.mark.parametrize(
    "change", [{"add_cross_attention": True}, {"reorder_and_upcast_attn": True}]
)
def test_other_attention(change: dict[str, Any]) -> None:
    assert "attention" in why_not(tiny_gpt2(attn_implementation="eager", **change), plain())


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"modules_to_save": ["ln_f"]}])
def test_lora_lies_in_the_modules_that_are_called(settings: dict[str, Any]) -> None:
    base = tiny_gpt2()
    without = decoded(base)
    model = lora(base, **settings)
    assert why_not(model, plain()) == "" and why_not(base, plain()) == ""
    found = decoded(model)
    assert found == generated(model) and found != without
    with model.disable_adapter():
        assert decoded(model) == without


def test_other_adapters_are_left_to_generate() -> None:
    import peft

    config = peft.IA3Config(target_modules=["c_attn"], feedforward_modules=[], fan_in_fan_out=True)
    model = peft.get_peft_model(tiny_gpt2(), config)
    assert why_not(model, plain()) == "adapter default is IA3, not LORA"
    prefix = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    assert "PREFIX_TUNING" in why_not(peft.get_peft_model(tiny_gpt2(), prefix), plain())
    activated = {"alora_invocation_tokens": [1], "task_type": "CAUSAL_LM"}
    assert "activated" in why_not(lora(tiny_gpt2(), **activated), plain())


def test_hooks_that_would_be_passed_by() -> None:
    model = tiny_gpt2()
    handle = model.transformer.h[1].register_forward_hook(lambda module, given, output: None)
    assert why_not(model, plain()) == "GPT2Block has hooks"
    handle.remove()
    handle = model.transformer.h[1].attn.register_forward_pre_hook(lambda module, given: None)
    assert why_not(model, plain()) == "GPT2Attention has hooks"
    handle.remove()
    assert why_not(model, plain()) == ""


def test_hooks_on_what_is_called_are_run() -> None:
    model = tiny_gpt2()
    before = decoded(model)
    model.transformer.h[0].mlp.register_forward_hook(lambda module, given, output: -output)
    assert why_not(model, plain()) == ""
    assert decoded(model) == generated(model) != before
    model.enable_input_require_grads()  # as a trainer does for adapters and checkpointing
    assert decoded(model) == generated(model)


def test_a_forward_bound_by_a_stranger() -> None:
    def other(self: Any, *args: Any, **kwargs: Any) -> Any:
        return type(self).forward(self, *args, **kwargs)

    for path in ("", "transformer", "transformer.h.2", "transformer.h.0.attn"):
        model = tiny_gpt2()
        module = model.get_submodule(path)
        module.forward = MethodType(other, module)
        assert f"bound by {__name__}" in why_not(model, plain()), path
        with patched(model, ["fused_head_loss"]):  # nor is it overlooked under a known one
            assert f"bound by {__name__}" in why_not(model, plain()), path


def test_heads_for_the_loss_change_no_generation() -> None:
    from trl.trainer.utils import add_fused_lm_head

    model = tiny_gpt2()
    before = decoded(model)
    add_fused_lm_head(model)
    with patched(model, "auto"):
        assert why_not(model, plain()) == ""
        assert decoded(model) == generated(model) == before


def test_accelerates_autocast_needs_the_call_inside_it() -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    accelerator = Accelerator(mixed_precision="bf16", cpu=True)
    try:
        model = accelerator.prepare_model(tiny_gpt2(), evaluation_mode=True)
        assert "autocast" in why_not(model, plain())
        with accelerator.autocast():
            assert why_not(model, plain()) == ""
            assert [len(row) for row in decoded(model)] == [6, 6, 6]
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def test_the_reason_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    tell_once.cache_clear()
    with caplog.at_level(logging.INFO, logger="llmkit"):
        for _ in range(2):
            decoded(tiny_gpt2(), repetition_penalty=1.3)
    told = [record.message for record in caplog.records if record.name == "llmkit"]
    assert told == ["decoding by transformers' generate: repetition_penalty is 1.3"]
