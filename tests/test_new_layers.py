"""New layers change nothing until they are trained, and then nothing below them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    GPTNeoXConfig,
    GPTNeoXForSequenceClassification,
    PreTrainedModel,
)

from llmkit.errors import UserError
from llmkit.new_layers import add_layers

SMALL = {
    "gpt2": {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 32},
    "llama": {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
    },
}
IDS = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])


def scorer(model_type: str) -> PreTrainedModel:
    config = AutoConfig.for_model(
        model_type, vocab_size=11, num_labels=1, pad_token_id=0, **SMALL[model_type]
    )
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config).eval()


@pytest.mark.parametrize("model_type", SMALL)
def test_the_scores_stay_until_a_step_is_taken(model_type: str, tmp_path: Path) -> None:
    model = scorer(model_type)
    before = model(input_ids=IDS).logits.detach()
    add_layers(model, 2, where="reward.new_layers")
    assert model.config.num_hidden_layers == 4
    torch.testing.assert_close(model(input_ids=IDS).logits, before)
    below = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):  # the first step moves the projections away from zero
        optimizer.zero_grad()
        model(input_ids=IDS).logits.square().sum().backward()
        optimizer.step()
    after = model(input_ids=IDS).logits
    assert not torch.allclose(after, before)
    assert len(below) > 10
    for name, parameter in model.named_parameters():
        assert name not in below or torch.equal(parameter, below[name]), name
    model.save_pretrained(tmp_path)
    again, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    torch.testing.assert_close(again.eval()(input_ids=IDS).logits, after)


def test_each_new_layer_is_a_copy_that_adds_nothing() -> None:
    model = scorer("gpt2")
    add_layers(model, 3, "reward.new_layers")
    layers = model.transformer.h
    for new, own in ((2, 1), (3, 0), (4, 1)):  # the last three of a model of two, in rounds
        assert layers[new].attn.layer_idx == new
        assert torch.equal(layers[new].attn.c_attn.weight, layers[own].attn.c_attn.weight)
        assert torch.equal(layers[new].mlp.c_fc.weight, layers[own].mlp.c_fc.weight)
        assert not layers[new].attn.c_proj.weight.any()
        assert not layers[new].mlp.c_proj.weight.any()
        assert layers[own].attn.c_proj.weight.any()


def test_an_architecture_that_is_not_known_is_named() -> None:
    config = GPTNeoXConfig(
        vocab_size=11, num_hidden_layers=1, num_attention_heads=2, hidden_size=16, num_labels=1
    )
    with pytest.raises(UserError, match=r"reward\.new_layers: a gpt_neox model takes no new"):
        add_layers(GPTNeoXForSequenceClassification(config), 1, "reward.new_layers")
