"""The cached forward against the model's own on single rows, without cache or padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_gpt2 import CONTEXT, VOCABULARY, next_logits, random_lengths, random_prompts, tiny_gpt2

from llmkit.decoding import gpt2
from llmkit.decoding.gpt2 import GPT2Decoder

LENGTHS = {
    "equal": [7, 7, 7],
    "one": [5],
    "unequal": [1, 30, 2, 9, 30, 17],
    "single tokens": [1, 1],
}


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_gpt2()


def assert_follows(model: Any, prompts: list[list[int]], steps: int, tolerance: float) -> None:
    """Every step's logits equal the forward of the whole row; the tokens are drawn at random."""
    fed = torch.randint(VOCABULARY, (steps, len(prompts)), generator=torch.Generator())
    with torch.no_grad():
        decoder = GPT2Decoder(model, steps + 1)
        found, rows = decoder.read(prompts), [list(prompt) for prompt in prompts]
        for tokens in [*fed, None]:
            expected = torch.stack([next_logits(model, row) for row in rows])
            torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
            if tokens is not None:
                found = decoder.step(tokens)
                rows = [[*row, int(t)] for row, t in zip(rows, tokens, strict=True)]


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=list(LENGTHS))
def test_logits_equal_the_models_own(model: Any, lengths: list[int]) -> None:
    assert_follows(model, random_prompts(lengths), 10, 2e-4)


def test_up_to_the_end_of_the_context(model: Any) -> None:
    assert_follows(model, random_prompts([CONTEXT - 6, 3]), 6, 2e-4)


@pytest.mark.parametrize("tokens_at_once", [1, 20, 10_000])
def test_prompts_read_in_lots_and_a_cache_that_grows(
    model: Any, monkeypatch: pytest.MonkeyPatch, tokens_at_once: int
) -> None:
    monkeypatch.setattr(gpt2, "PROMPT_TOKENS", tokens_at_once)
    monkeypatch.setattr(gpt2, "FULL_SPEED", 4)
    monkeypatch.setattr(gpt2, "STEPS_AHEAD", 2)
    prompts = random_prompts(random_lengths(9, 20, seed=3))
    prompts += [prompts[4], prompts[0], prompts[4]]  # equal prompts are read once
    assert_follows(model, prompts, 12, 2e-4)


def test_rows_are_dropped(model: Any) -> None:
    prompts = random_prompts([4, 11, 2, 6])
    with torch.no_grad():
        decoder = GPT2Decoder(model, 4)
        decoder.read(prompts)
        decoder.step(torch.tensor([1, 2, 3, 4]))
        decoder.keep(torch.tensor([1, 3]))
        found = decoder.step(torch.tensor([5, 6]))
    expected = [next_logits(model, [*prompts[1], 2, 5]), next_logits(model, [*prompts[3], 4, 6])]
    torch.testing.assert_close(found, torch.stack(expected), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False},
        {"activation_function": "relu", "n_inner": 48},
        {"tie_word_embeddings": False},
        {"attn_implementation": "eager"},
    ],
    ids=str,
)
def test_what_a_configuration_may_say(changes: dict[str, Any]) -> None:
    assert_follows(tiny_gpt2(**changes), random_prompts([3, 12]), 3, 2e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_half(dtype: torch.dtype) -> None:
    """As near to the float32 model as the model's own forward in half precision, or nearly so."""
    exact, model = tiny_gpt2(), tiny_gpt2().to(dtype)
    model.load_state_dict(exact.state_dict())
    exact.load_state_dict(model.state_dict())  # the same rounded weights
    prompts = random_prompts([3, 12, 12, 30])
    with torch.no_grad():
        decoder = GPT2Decoder(model, 4)
        found = decoder.read(prompts)
    assert {cache.dtype for cache in decoder.caches} == {dtype} and found.dtype == torch.float32
    truth = torch.stack([next_logits(exact, prompt) for prompt in prompts])
    own = torch.stack([next_logits(model, prompt) for prompt in prompts])
    assert (found - truth).norm() < 1.5 * (own - truth).norm()
