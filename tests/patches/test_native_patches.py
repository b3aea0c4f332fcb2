"""Patches by native code on whole models: used where they fit, the same numbers, the same bits."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, PreTrainedConfig, Qwen3Config

from llmkit.device import cpu_flags
from llmkit.kernels import native
from llmkit.patch import PATCHES, automatic_patches, patched

# peft asks for the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
GPT2 = GPT2Config(
    vocab_size=131, n_positions=48, n_embd=32, n_layer=2, n_head=2, resid_pdrop=0.0,
    embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0, use_cache=False,
)  # fmt: skip
QWEN = Qwen3Config(
    vocab_size=131, hidden_size=32, intermediate_size=40, num_hidden_layers=2, head_dim=16,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=48, use_cache=False,
    bos_token_id=0, eos_token_id=0, pad_token_id=None,
)  # fmt: skip


@pytest.fixture(autouse=True)
def built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Native code for every operation, however small."""
    for op in ("gelu", "layer_norm"):
        monkeypatch.setattr(f"llmkit.kernels.{op}.native.FEWEST_ELEMENTS", 1)
    for op in ("attention", "gelu", "fused_head_loss", "layer_norm"):
        reason = native.refusal(op, cpu_flags())
        if reason:
            pytest.skip(reason)
        native.library(op)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each compiled function was called."""
    seen: Counter[str] = Counter()
    for op in ("attention", "gelu", "layer_norm", "fused_head_loss"):
        module = __import__(f"llmkit.kernels.{op}.native", fromlist=["call"])

        def spy(function: Any, *given: Any) -> None:
            seen[function.__name__] += 1
            native.call(function, *given)

        monkeypatch.setattr(module, "call", spy)
    return seen


def _model(config: PreTrainedConfig = GPT2) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").train()


def _ids(length: int = 37) -> Tensor:
    torch.manual_seed(1)
    return torch.randint(131, (3, length))


def _results(model: Any, **given: Any) -> list[Tensor]:
    """Loss and gradients under autocast in bfloat16."""
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**given).loss
    loss.backward()
    return [loss.detach()] + [p.grad.clone() for p in model.parameters() if p.grad is not None]


def _distance(found: list[Tensor], truth: list[Tensor]) -> float:
    pairs = zip(found, truth, strict=True)
    square = sum((a.double() - b.double()).square().sum() for a, b in pairs)
    return float((square / sum(b.double().square().sum() for b in truth)).sqrt())


@pytest.mark.parametrize("config", [GPT2, QWEN], ids=["gpt2", "qwen3"])
def test_training_in_bfloat16_runs_native_code_and_is_no_further_from_float32(
    config: PreTrainedConfig, calls: Counter[str]
) -> None:
    model, ids = _model(config), _ids()
    exact = model.double()(ids, labels=ids).loss
    exact.backward()
    truth = [exact.detach()] + [p.grad.clone() for p in model.parameters()]
    model.float()
    names = list(PATCHES) if config is GPT2 else ["attention", "fused_head_loss"]
    stock = _results(model, input_ids=ids, labels=ids)
    assert not calls
    with patched(model, names):
        found = _results(model, input_ids=ids, labels=ids)
    assert _distance(found, truth) < 1.5 * _distance(stock, truth)
    assert calls["attention_forward"] == calls["attention_backward"] == 2
    assert calls["cross_entropy_bfloat16"] == 1
    if config is GPT2:
        assert calls["gelu_forward_bfloat16"] == calls["gelu_backward_bfloat16"] == 2
        assert calls["forward_bfloat16_bfloat16"] == calls["forward_float32_bfloat16"] == 2
        assert calls["backward_bfloat16_bfloat16"] == calls["backward_float32_bfloat16"] == 2


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_logits_equal_stock(side: str, calls: Counter[str]) -> None:
    model, ids = _model().eval(), _ids()
    mask = torch.ones_like(ids)
    mask[1, slice(0, 6) if side == "left" else slice(31, 37)] = 0
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        stock = model(ids, attention_mask=mask).logits
        with patched(model, ["attention"]):
            assert torch.equal(model(ids, attention_mask=mask).logits, stock) and not calls
            plain = model(ids).logits
    assert calls["attention_forward"] == 2
    whole = [0, 2] + ([1] if side == "right" else [])
    seen = slice(None) if side == "left" else slice(0, 31)
    torch.testing.assert_close(plain[whole, seen], stock[whole, seen], atol=2e-2, rtol=2e-2)


def test_what_native_code_does_not_know_goes_its_stock_way(calls: Counter[str]) -> None:
    model, ids = _model(), _ids(8)
    for block in model.transformer.h:
        block.attn.attn_dropout.p = 0.5
    with patched(model, ["attention"]):
        _results(model, input_ids=_ids(), labels=_ids())
        for block in model.transformer.h:
            block.attn.attn_dropout.p = 0.0
        _results(model, input_ids=ids, labels=ids)  # few tokens
        model(_ids(), labels=_ids()).loss.backward()  # float32
    assert not calls


def test_checkpointing_gives_the_same_bits_and_so_does_another_run() -> None:
    model, ids = _model(), _ids()
    with patched(model, list(PATCHES)):
        plain = _results(model, input_ids=ids, labels=ids)
        again = _results(model, input_ids=ids, labels=ids)
        enable = model.gradient_checkpointing_enable
        getattr(model, "activation_checkpointing_enable", enable)()
        checkpointed = _results(model, input_ids=ids, labels=ids)
    for a, b, c in zip(plain, again, checkpointed, strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)


def test_adapters_train_over_frozen_weights(calls: Counter[str]) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True)
    model, ids = get_peft_model(_model(), config), _ids()
    with torch.no_grad():  # B is zero at first, and then A has no gradient
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    stock = _results(model, input_ids=ids, labels=ids)
    with patched(model, list(PATCHES)):
        found = _results(model, input_ids=ids, labels=ids)
    assert calls["attention_backward"] == 2 and len(found) == 9
    assert _distance(found, stock) < 2e-2


def test_auto_takes_them_all_on_a_cpu() -> None:
    assert automatic_patches(_model()) == list(PATCHES)
