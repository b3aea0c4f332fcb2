"""fused_head_loss on other models, adapters, and with log-probabilities on request."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.distributions import Categorical
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from llmkit.errors import UserError
from llmkit.patch import automatic_patches, patched

GPT2 = GPT2Config(
    vocab_size=131, n_positions=24, n_embd=20, n_layer=2, n_head=2, resid_pdrop=0.0,
    embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
)  # fmt: skip
SIZES: dict[str, Any] = {
    "vocab_size": 131, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 24,
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None,
}  # fmt: skip
CONFIGS = [
    LlamaConfig(**SIZES, tie_word_embeddings=False),
    MistralConfig(**SIZES),
    Qwen2Config(**SIZES, tie_word_embeddings=True),
    Qwen3Config(**SIZES, head_dim=8),
]


# peft asks transformers 5.24 by the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


def _model(config: PreTrainedConfig = GPT2) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def _batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    ids = torch.randint(131, (3, 17))
    labels = ids.clone()
    labels[0, :5] = -100
    return {"input_ids": ids, "labels": labels}


def _gradients(model: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss = model(**_batch(), **kwargs).loss
    loss.backward()
    trained = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **trained}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_llama_and_qwen_types_equal_stock(config: PreTrainedConfig) -> None:
    model = _model(config)
    stock = _gradients(model, num_items_in_batch=29)
    chosen = automatic_patches(model)
    assert "fused_head_loss" in chosen and "gelu" not in chosen
    with patched(model, ["fused_head_loss"]):
        found = _gradients(model, num_items_in_batch=29)
        assert model(**_batch()).logits is None
    assert found.keys() == stock.keys()
    for key, true in stock.items():
        torch.testing.assert_close(found[key], true, atol=1e-6, rtol=1e-4, msg=key)


def test_labels_may_stand_by_position() -> None:
    model, batch = _model(LlamaConfig(**SIZES)), _batch()
    by_position = (batch["input_ids"], None, None, None, None, batch["labels"])
    stock = model(*by_position).loss
    with patched(model, ["fused_head_loss"]):
        output = model(*by_position)
    assert output.logits is None
    torch.testing.assert_close(output.loss, stock)


def test_adapters_are_trained_as_in_stock() -> None:
    lora = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
    model = get_peft_model(_model(), lora)
    stock = _gradients(model)
    with patched(model, ["attention", "layer_norm", "gelu", "fused_head_loss"]):
        found = _gradients(model)
        assert model(**_batch()).logits is None
    assert found.keys() == stock.keys() and len(stock) == 1 + 2 * 2
    for key, true in stock.items():
        torch.testing.assert_close(found[key], true, atol=1e-6, rtol=1e-4, msg=key)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")  # peft 0.19
def test_an_adapter_on_the_head_is_refused() -> None:
    lora = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    model = get_peft_model(_model(LlamaConfig(**SIZES, tie_word_embeddings=False)), lora)
    with pytest.raises(UserError, match="ModulesToSaveWrapper"):
        with patched(model, ["fused_head_loss"]):
            pass


@pytest.mark.parametrize("shift", [False, True], ids=["labels", "shift_labels"])
def test_log_probs_and_entropy_on_request(shift: bool) -> None:
    model, batch = _model(), _batch()
    if shift:
        batch["shift_labels"] = batch["input_ids"].flip(1)
    stock = model(**batch)
    targets = batch["shift_labels"] if shift else batch["labels"][:, 1:]
    logits = (stock.logits if shift else stock.logits[:, :-1]).double()
    counts = targets != -100
    truth = Categorical(logits=logits)
    with patched(model, ["fused_head_loss"]):
        output = model(**batch, output_log_probs=True)
        fused = model(**batch).loss
    true_log_probs = truth.log_prob(targets.clamp_min(0)) * counts
    torch.testing.assert_close(output.log_probs.double(), true_log_probs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        output.entropy.double(), truth.entropy() * counts, atol=1e-5, rtol=1e-5
    )
    assert output.logits is None
    torch.testing.assert_close(output.loss, stock.loss)
    torch.testing.assert_close(output.loss, fused)


def test_gradients_flow_from_log_probs_and_entropy_into_the_model() -> None:
    model, batch = _model(), _batch()
    batch["labels"] = batch["input_ids"]

    def gradients(log_probs: torch.Tensor, entropy: torch.Tensor) -> list[torch.Tensor]:
        model.zero_grad()
        (log_probs.mean() + 0.1 * entropy.mean()).backward()
        return [p.grad.clone() for p in model.parameters()]

    truth = Categorical(logits=model(batch["input_ids"]).logits[:, :-1])
    stock = gradients(truth.log_prob(batch["labels"][:, 1:]), truth.entropy())
    with patched(model, ["fused_head_loss"]):
        output = model(**batch, output_log_probs=True)
    found = gradients(output.log_probs, output.entropy)
    torch.testing.assert_close(found, stock, atol=1e-6, rtol=1e-4)


def test_label_smoothing_is_refused() -> None:
    with patched(_model(), ["fused_head_loss"]) as model:
        with pytest.raises(UserError, match="label smoothing needs the logits"):
            model(**_batch(), label_smoothing=0.1)
