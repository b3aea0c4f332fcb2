"""Completions and likelihoods against loops written out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_chat import tiny_model, tiny_tokenizer
from transformers import GenerationConfig

from llmkit.decode import complete, nats, prompt_ids, sample
from llmkit.errors import InputError

CONTEXT = 24


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    model = tiny_model(tokenizer, CONTEXT)
    with torch.no_grad():  # sharper than fresh weights, so that continuations differ
        for parameter in model.parameters():
            parameter.mul_(4.0)
    return model


def prompts(tokenizer: Any) -> list[list[int]]:
    texts = ["the sky", "Who bakes the bread?", "sea", "blue, blue and I", "x"]
    return [tokenizer(text)["input_ids"] for text in texts]


def by_hand(model: Any, prompt: list[int], new: int, stops: list[int]) -> tuple[list[int], bool]:
    ids = list(prompt)
    for _ in range(new):
        with torch.no_grad():
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        if token in stops:
            return ids[len(prompt) :], True
        ids.append(token)
    return ids[len(prompt) :], False


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_greedy_equals_the_loop(model: Any, tokenizer: Any, batch_size: int) -> None:
    asked = prompts(tokenizer)
    free = [by_hand(model, prompt, 8, []) for prompt in asked]
    stops = [free[1][0][3], free[3][0][0]]  # tokens that do come, so that some answers end
    model.generation_config.eos_token_id = stops
    expected = [by_hand(model, prompt, 8, stops) for prompt in asked]
    found = complete(model, tokenizer, asked, {"max_new_tokens": 8}, batch_size)
    assert found == expected
    assert {ended for _, ended in found} == {True, False}


def test_sampling_repeats_with_its_seed(model: Any, tokenizer: Any) -> None:
    settings = {"max_new_tokens": 6, "do_sample": True, "temperature": 2.0}
    before = torch.random.get_rng_state()
    one = complete(model, tokenizer, prompts(tokenizer), settings, 2, seed=1)
    assert one == complete(model, tokenizer, prompts(tokenizer), settings, 2, seed=1)
    assert one != complete(model, tokenizer, prompts(tokenizer), settings, 2, seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_prompts_draws_depend_on_no_batch_and_on_no_prompt_after_it(
    model: Any, tokenizer: Any
) -> None:
    settings = {"max_new_tokens": 6, "do_sample": True, "temperature": 2.0}
    asked = prompts(tokenizer) * 3
    whole = complete(model, tokenizer, asked, settings, 64, seed=1)
    for batch_size in (1, 4):
        assert complete(model, tokenizer, asked, settings, batch_size, seed=1) == whole
    assert complete(model, tokenizer, asked[:7], settings, 64, seed=1) == whole[:7]
    assert whole[:5] != whole[5:10]  # the same prompt in two places is drawn anew


def test_sample_keeps_the_stop_token_and_the_order(model: Any, tokenizer: Any) -> None:
    asked = prompts(tokenizer)
    stops = [by_hand(model, asked[1], 8, [])[0][2]]
    config = GenerationConfig(max_new_tokens=8, eos_token_id=stops)
    expected = [by_hand(model, prompt, 8, stops) for prompt in asked]
    found = sample(model, asked, config)
    assert found.ids == [ids + stops * ended for ids, ended in expected]
    assert found.ended == [ended for _, ended in expected] and found.log_probabilities is None
    assert sample(model, [], config).ids == []


@pytest.mark.parametrize("settings", [{}, {"repetition_penalty": 1.2}], ids=["ours", "generate"])
def test_sample_draws_by_its_generator(
    model: Any, tokenizer: Any, settings: dict[str, float]
) -> None:
    config = GenerationConfig(max_new_tokens=6, do_sample=True, temperature=2.0, **settings)
    asked = prompts(tokenizer)
    before = torch.random.get_rng_state()
    generator = torch.Generator().manual_seed(1)
    one, two = sample(model, asked, config, generator), sample(model, asked, config, generator)
    assert one != two
    assert one == sample(model, asked, config, torch.Generator().manual_seed(1))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(5)
    three = sample(model, asked, config)
    torch.manual_seed(5)
    assert sample(model, asked, config) == three != sample(model, asked, config)


def test_sample_switches_dropout_off_and_every_module_back(tokenizer: Any) -> None:
    model = tiny_model(tokenizer, CONTEXT)
    config = GenerationConfig(max_new_tokens=6)
    expected = sample(model, prompts(tokenizer), config)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.9
    model.train()
    model.transformer.h.eval()
    assert sample(model, prompts(tokenizer), config) == expected
    assert model.training and model.transformer.wte.training
    assert not any(module.training for module in model.transformer.h.modules())


def test_the_models_own_settings_do_not_slip_in(model: Any, tokenizer: Any) -> None:
    plain = complete(model, tokenizer, prompts(tokenizer), {"max_new_tokens": 6})
    model.generation_config.repetition_penalty = 5.0
    try:
        assert complete(model, tokenizer, prompts(tokenizer), {"max_new_tokens": 6}) == plain
    finally:
        model.generation_config.repetition_penalty = None


@pytest.mark.parametrize("prompt", [[], [5] * (CONTEXT - 3)])
def test_a_prompt_without_room_is_named(model: Any, tokenizer: Any, prompt: list[int]) -> None:
    with pytest.raises(InputError, match="prompt 2"):
        complete(model, tokenizer, [[5], prompt], {"max_new_tokens": 4})
    with pytest.raises(InputError, match="prompt 2"):
        sample(model, [[5], prompt], GenerationConfig(max_new_tokens=4))


def test_plain_prompts_begin_a_document(tokenizer: Any) -> None:
    ids = prompt_ids(tokenizer, "the <|end|> sky")
    assert ids[0] == tokenizer.bos_token_id
    assert not set(ids[1:]) & set(tokenizer.all_special_ids)
    assert tokenizer.decode(ids[1:]) == "the <|end|> sky"


def test_nats_equal_the_sum_by_hand(model: Any) -> None:
    rows = [([3, 5, 8, 13], [0, 1, 0, 1]), ([9, 4], [1, 1]), ([7, 7, 7], [0, 0, 0])]
    expected = []
    for ids, scored in rows:
        with torch.no_grad():
            log_p = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        expected.append(-sum(float(log_p[t - 1, ids[t]]) for t in range(1, len(ids)) if scored[t]))
    assert nats(model, rows) == pytest.approx(expected, rel=1e-5)


def test_long_texts_are_scored_once_with_half_a_context(model: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 250, (61,), generator=generator).tolist()
    expected = 0.0
    for t in range(1, len(ids)):
        # The first window holds 24 tokens; from there each window adds 12 and ends with them.
        end = CONTEXT if t < CONTEXT else min(CONTEXT + ((t - CONTEXT) // 12 + 1) * 12, len(ids))
        window = ids[max(end - CONTEXT, 0) : t]
        assert t < CONTEXT or len(window) >= CONTEXT // 2
        with torch.no_grad():
            expected -= float(model(torch.tensor([window])).logits[0, -1].log_softmax(-1)[ids[t]])
    assert nats(model, [(ids, [1] * len(ids))]) == pytest.approx([expected], rel=1e-5)


def test_a_batch_that_ends_unevenly_warns_of_nothing(
    model: Any, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The mask is all ones, transformers drops it, and one row is filled up with padding."""
    from transformers.utils import logging as logging_of_transformers

    logging_of_transformers.warning_once.cache_clear()
    asked = [prompts(tokenizer)[0], prompts(tokenizer)[2] * 2]
    asked = [row[: min(map(len, asked))] for row in asked]
    free = [by_hand(model, prompt, 8, [])[0] for prompt in asked]
    stop = next(token for token in free[0] if token not in free[1])
    settings = {"max_new_tokens": 8, "eos_token_id": stop}
    logger = logging_of_transformers.get_logger("transformers")
    logger.addHandler(caplog.handler)
    try:
        found = complete(model, tokenizer, asked, settings)
    finally:
        logger.removeHandler(caplog.handler)
    assert [ended for _, ended in found] == [True, False]
    assert caplog.text == ""
    assert model.config.pad_token_id == tokenizer.pad_token_id
