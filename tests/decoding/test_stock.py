"""Transformers' `generate` behind the same face."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_gpt2 import by_hand, random_prompts, tiny_gpt2
from transformers import GenerationConfig

from llmkit.decoding.loop import decode
from llmkit.decoding.stock import generate
from llmkit.errors import UserError


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_gpt2()


def test_the_same_as_our_loop_where_both_can(model: Any) -> None:
    prompts = random_prompts([4, 11, 1, 7])
    stops = [by_hand(model, prompts[1], 3, [])[0][2]]
    config = GenerationConfig(max_new_tokens=9, eos_token_id=stops, temperature=1.0)
    ours, theirs = (f(model, prompts, config, log_probabilities=True) for f in (decode, generate))
    assert theirs.ids == ours.ids and theirs.ended == ours.ended and ours.ended[1]
    for row, expected in zip(theirs.log_probabilities, ours.log_probabilities, strict=True):
        assert row == pytest.approx(expected, abs=2e-4)


def test_log_probabilities_are_before_penalties_and_filters(model: Any) -> None:
    prompts = random_prompts([4, 9])
    settings = {"do_sample": True, "temperature": 0.7, "top_k": 4, "repetition_penalty": 1.5}
    torch.manual_seed(0)
    config = GenerationConfig(max_new_tokens=5, **settings)
    found = generate(model, prompts, config, log_probabilities=True)
    for prompt, ids, scored in zip(prompts, found.ids, found.log_probabilities, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        log_p = (logits / 0.7).log_softmax(-1)
        expected = log_p.gather(1, torch.tensor(ids)[:, None])[:, 0].tolist()
        assert scored == pytest.approx(expected, abs=2e-4)


def test_what_is_left_open_is_neutral_and_not_the_models_own(model: Any) -> None:
    prompts = random_prompts([4])
    config = GenerationConfig(max_new_tokens=6)
    plain = generate(model, prompts, config)
    own = model.generation_config
    own.repetition_penalty, own.eos_token_id = 5.0, plain.ids[0][1]
    try:
        assert generate(model, prompts, config) == plain
        assert model.generation_config is own and config.pad_token_id is None
    finally:
        own.repetition_penalty = own.eos_token_id = None


@pytest.mark.parametrize("key", ["num_return_sequences", "num_beams"])
def test_what_has_no_answer(model: Any, key: str) -> None:
    config = GenerationConfig(max_new_tokens=2, do_sample=True, **{key: 2})
    with pytest.raises(UserError, match=key):
        generate(model, [[1, 2]], config, log_probabilities=True)
