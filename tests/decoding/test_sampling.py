"""What is drawn, against probabilities worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from llmkit.decoding.sampling import Sampler, log_probability

POINTS = 20_000
PROBABILITIES = torch.tensor([0.05, 0.4, 0.0, 0.25, 0.3])
LOGITS = PROBABILITIES.log() + 3.0  # a constant changes nothing


def shares(logits: torch.Tensor, **settings: Any) -> list[float]:
    """Of each token, drawn with evenly spaced numbers: exact to 1 / POINTS."""
    sampler = Sampler(GenerationConfig(do_sample=True, **settings))
    uniforms = (torch.arange(POINTS) + 0.5) / POINTS
    scores = sampler.scores(logits.expand(POINTS, -1))
    tokens, witness = sampler.take(scores, uniforms)
    assert witness.isfinite().all()
    return (torch.bincount(tokens, minlength=len(logits)) / POINTS).tolist()


def test_tokens_come_as_often_as_they_are_likely() -> None:
    assert shares(LOGITS) == pytest.approx(PROBABILITIES.tolist(), abs=2 / POINTS)


def test_temperature() -> None:
    powers = PROBABILITIES**0.5  # temperature 2
    expected = (powers / powers.sum()).tolist()
    assert shares(LOGITS, temperature=2.0) == pytest.approx(expected, abs=2 / POINTS)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"top_k": 2}, [1, 4]),
        ({"top_p": 0.69}, [1, 4]),
        ({"top_p": 0.71}, [1, 3, 4]),
        ({"min_p": 0.6}, [1, 3, 4]),  # 0.24 and more
        ({"top_k": 3, "top_p": 0.7}, [1, 4]),  # of 0.95: 0.42, 0.32, 0.26
        ({"top_k": 50}, [0, 1, 3, 4]),
    ],
    ids=str,
)
def test_filters(settings: dict[str, Any], kept: list[int]) -> None:
    expected = torch.zeros(5)
    expected[kept] = PROBABILITIES[kept] / PROBABILITIES[kept].sum()
    assert shares(LOGITS, **settings) == pytest.approx(expected.tolist(), abs=2 / POINTS)


@pytest.mark.parametrize("number", [0.0, 1 - 2**-24, 1.0])
def test_the_ends_of_the_interval_draw_what_is_possible(number: float) -> None:
    logits = torch.randn(400, 50, generator=torch.Generator().manual_seed(0))
    logits[:, :3] = logits[:, -3:] = float("-inf")
    sampler = Sampler(GenerationConfig(do_sample=True))
    tokens, _ = sampler.take(logits, torch.full((400,), number))
    assert set(tokens.tolist()) == {3 if number == 0 else 46}


def test_without_numbers_the_first_of_the_likeliest() -> None:
    scores = torch.tensor([[1.0, 3.0, 3.0], [0.0, -1.0, -2.0]])
    tokens, witness = Sampler(GenerationConfig()).take(scores, None)
    assert tokens.tolist() == [1, 0] and witness.isfinite().all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("uniforms", [None, torch.tensor([0.3, 0.999])])
def test_scores_that_are_no_numbers_are_told(bad: float, uniforms: torch.Tensor | None) -> None:
    scores = torch.tensor([[0.0, 1.0, 2.0], [0.0, bad, 1.0]])
    tokens, witness = Sampler(GenerationConfig(do_sample=True)).take(scores, uniforms)
    assert witness.isfinite().tolist() == [True, False]
    assert tokens.max() < 3


def test_greedy_has_no_temperature_and_a_wrong_one_is_refused() -> None:
    assert Sampler(GenerationConfig(temperature=0.0)).temperature == 1.0
    with pytest.raises(ValueError, match="temperature"):
        Sampler(GenerationConfig(do_sample=True, temperature=0.0))


def test_log_probability_is_of_the_whole_softmax() -> None:
    found = log_probability(LOGITS.expand(3, -1), torch.tensor([1, 0, 2])).tolist()
    assert found[:2] == pytest.approx([-0.916291, -2.995732], abs=1e-5)
    assert found[2] == float("-inf")
