"""The value model: what it begins as, what it reads, and that it comes back as it was."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_chat import tiny_model, tiny_tokenizer
from transformers import (
    AutoModelForTokenClassification,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
)

from llmkit.errors import InputError
from llmkit.trainers.critic import fresh_critic, head_of, load_critic, save_critic, token_values


@pytest.fixture(scope="module")
def policy() -> Any:
    return tiny_model(tiny_tokenizer())


def test_it_begins_as_the_policy_with_values_of_zero(policy: Any) -> None:
    critic = fresh_critic(policy)
    ids = torch.tensor([[5, 9, 20, 33, 7]])
    hidden = critic.base_model(ids).last_hidden_state
    assert torch.equal(hidden, policy.base_model(ids).last_hidden_state)
    assert type(critic).__name__ == "GPT2ForTokenClassification"
    assert not token_values(critic, ids, torch.ones_like(ids), 2).any()
    assert not any(m.p for m in critic.modules() if isinstance(m, torch.nn.Dropout))
    with torch.no_grad():
        next(critic.parameters()).add_(1.0)  # weights of its own: the policy's stay
    assert not torch.equal(next(critic.parameters()), next(policy.parameters()))
    assert policy.config.num_labels == 2 and policy.config.architectures != [None]


def test_from_a_reward_model_it_takes_the_head_too(policy: Any) -> None:
    torch.manual_seed(1)
    config = copy.deepcopy(policy.config)
    config.num_labels = 1
    reward = GPT2ForSequenceClassification(config).eval()
    critic = fresh_critic(reward).eval()
    ids = torch.tensor([[5, 9, 20, 33, 7]])
    score = reward(ids).logits[0, 0].detach()
    values = token_values(critic, torch.cat([ids, ids[:, :1]], 1), torch.ones(1, 6), 1)
    assert float(values.detach()) == pytest.approx(float(score), abs=1e-6)


def test_a_value_is_of_the_text_before_each_token(policy: Any) -> None:
    """Against the bare transformer and its head, one prefix at a time."""
    critic = fresh_critic(policy).eval()
    torch.nn.init.normal_(head_of(critic).weight)
    ids = torch.tensor([[5, 9, 20, 33, 7, 11]])
    values = token_values(critic, ids, torch.ones_like(ids), 4).detach()
    for t in range(4):
        hidden = critic.base_model(ids[:, : 2 + t]).last_hidden_state[0, -1]
        alone = float((hidden @ head_of(critic).weight[0]).detach())
        assert float(values[0, t]) == pytest.approx(alone, abs=1e-5)


def test_left_padding_changes_no_value(policy: Any) -> None:
    critic = fresh_critic(policy).eval()
    torch.nn.init.normal_(head_of(critic).weight)
    torch.nn.init.normal_(critic.transformer.wpe.weight)  # positions that are felt
    plain = torch.tensor([[5, 9, 20, 33, 7]])
    padded = torch.cat([torch.full((1, 3), 1), plain], 1)
    mask = (torch.arange(8) >= 3).long()[None]
    wanted = token_values(critic, plain, torch.ones_like(plain), 3)
    found = token_values(critic, padded, mask, 3)
    assert torch.allclose(found, wanted, atol=1e-5)
    off = token_values(critic, padded, mask, 3, positions=False)
    assert not torch.allclose(off, wanted, atol=1e-2)


def test_saved_and_reloaded_it_gives_identical_values(policy: Any, tmp_path: Path) -> None:
    critic = fresh_critic(policy).eval()
    torch.nn.init.normal_(head_of(critic).weight)
    save_critic(critic, tmp_path)
    ids, mask = torch.tensor([[5, 9, 20, 33, 7]]), torch.ones(1, 5)
    wanted = token_values(critic, ids, mask, 4)
    assert torch.equal(token_values(load_critic(tmp_path).eval(), ids, mask, 4), wanted)
    plain = AutoModelForTokenClassification.from_pretrained(tmp_path, subfolder="value_model")
    assert torch.equal(token_values(plain.eval(), ids, mask, 4), wanted)
    assert plain.config.architectures == ["GPT2ForTokenClassification"]


def test_another_family_of_models() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        pad_token_id=0,
    )
    policy = LlamaForCausalLM(config)
    critic = fresh_critic(policy)
    ids = torch.tensor([[5, 9, 20]])
    hidden = policy.base_model(ids).last_hidden_state
    assert torch.equal(critic.base_model(ids).last_hidden_state, hidden)
    assert head_of(critic).out_features == 1


def test_faults(tmp_path: Path, policy: Any) -> None:
    with pytest.raises(InputError, match="no value model"):
        load_critic(tmp_path)
    from transformers import CTRLConfig, CTRLLMHeadModel

    odd = CTRLLMHeadModel(CTRLConfig(vocab_size=9, n_embd=8, dff=8, n_layer=1, n_head=1))
    with pytest.raises(InputError, match="no token classifier for ctrl"):
        fresh_critic(odd)
