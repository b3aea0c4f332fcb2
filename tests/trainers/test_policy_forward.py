"""Positions without padding, and no dropout; what they are for stands in test_rollouts.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_chat import tiny_model, tiny_tokenizer

from llmkit.trainers.policy_forward import takes_positions, with_positions, without_dropout


def test_positions_count_what_is_no_padding() -> None:
    seen: dict[str, Any] = {}
    mask = torch.tensor([[0, 0, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]])
    with_positions(lambda **inputs: seen.update(inputs))(attention_mask=mask, labels=7)
    assert seen["position_ids"].tolist() == [[0, 0, 0, 1, 2, 2], [0, 1, 2, 3, 4, 5]]
    assert seen["labels"] == 7


def test_nothing_drops_out() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    llama = LlamaConfig(vocab_size=32, intermediate_size=32, attention_dropout=0.5, **sizes)
    gpt2 = GPT2Config(vocab_size=32, n_embd=16, n_head=2, n_layer=1, n_positions=16)
    ids = torch.arange(12)[None]
    for model in (GPT2LMHeadModel(gpt2), LlamaForCausalLM(llama)):
        model.train()
        assert not torch.equal(model(ids).logits, model(ids).logits)
        without_dropout(model)
        assert torch.equal(model(ids).logits, model(ids).logits)
    assert gpt2.resid_pdrop == 0.1 and llama.attention_dropout == 0.5  # what is saved stays


# peft reads a name that transformers 5.23 has deprecated.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_which_models_take_positions() -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import BloomConfig, BloomForCausalLM

    model = tiny_model(tiny_tokenizer())
    bloom = BloomConfig(vocab_size=32, hidden_size=16, n_layer=1, n_head=2)
    assert takes_positions(model) and not takes_positions(BloomForCausalLM(bloom))
    adapted = LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"], fan_in_fan_out=True)
    assert takes_positions(get_peft_model(model, adapted))
