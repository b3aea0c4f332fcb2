"""Rewards: every fault of a reward function stops with its name and the row's prompt."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from llmkit.errors import InputError, UserError
from llmkit.rewards.reward import Reward, checked, shown, text_of

PROMPTS = [[{"role": "user", "content": f"question {number}"}] for number in range(3)]
SAID = [[{"role": "assistant", "content": f"answer {number}"}] for number in range(3)]


def call(rewards: Any, **columns: Any) -> list[float]:
    return checked("mine", lambda **_: rewards)(PROMPTS, SAID, **columns)


@pytest.mark.parametrize(
    "rewards",
    [
        [1, 0.5, True],
        (1, 0.5, 1),
        np.array([1, 0.5, 1]),
        torch.tensor([1, 0.5, 1]),
        iter([1, 0.5, 1]),
    ],
)
def test_numbers_pass(rewards: Any) -> None:
    found = call(rewards)
    assert found == [1.0, 0.5, 1.0] and all(type(reward) is float for reward in found)


@pytest.mark.parametrize(
    ("rewards", "what"),
    [
        ([1.0, None, 0.0], "returned None for the prompt 'question 1'"),
        ([1.0, 0.0, math.nan], "returned nan for the prompt 'question 2'"),
        ([-math.inf, 0.0, 0.0], "returned -inf for the prompt 'question 0'"),
        ([0.0, "good", 0.0], "returned 'good', which is no number for the prompt 'question 1'"),
        ([0.0, [1.0], 0.0], r"returned [1.0], which is no number"),
        ([1.0, 0.0], "returned 2 rewards for 3 completions"),
        ([], "returned 0 rewards for 3 completions"),
        (None, "returned NoneType, not a list"),
        (1.0, "returned float, not a list"),
        ("abc", "returned str, not a list"),
        ({0: 1.0, 1: 1.0, 2: 1.0}, "returned dict, not a list"),
    ],
)
def test_anything_else_stops(rewards: Any, what: str) -> None:
    with pytest.raises(UserError, match=f"^reward mine: {re.escape(what)}.*0.0 where"):
        call(rewards)


def test_a_function_that_fails_is_named_with_the_prompt_it_fails_on() -> None:
    def reward(completions: Any, answer: list[str], **_: Any) -> list[float]:
        return [float(value) for value in answer]

    with pytest.raises(UserError) as raised:
        checked("exact", reward)(PROMPTS, SAID, answer=["1", "x", "2"])
    assert str(raised.value).startswith(
        "reward exact: fails on the prompt 'question 1': ValueError"
    )
    assert isinstance(raised.value.__cause__, ValueError)


def test_a_function_that_fails_on_all_together_is_told_too() -> None:
    def reward(prompts: Any, **_: Any) -> list[float]:
        return [0.0] if len(prompts) == 1 else 1 / 0  # type: ignore[return-value]

    with pytest.raises(UserError, match="reward exact: fails: ZeroDivisionError") as raised:
        checked("exact", reward)(PROMPTS, SAID)
    assert "nothing is scored 0" in str(raised.value)


def test_our_own_errors_are_not_wrapped() -> None:
    def reward(**_: Any) -> list[float]:
        raise InputError("here", "is broken")

    with pytest.raises(InputError, match="^here: is broken"):
        checked("exact", reward)(PROMPTS, SAID)


def test_what_trl_reads_of_a_function() -> None:
    from trl.trainer.utils import get_callable_name, is_async_callable

    function = checked("mine", lambda **_: [])
    assert get_callable_name(function) == "mine" and not is_async_callable(function)


@pytest.mark.parametrize("weight", [0.0, math.nan, math.inf])
def test_a_weight_that_is_none(weight: float) -> None:
    with pytest.raises(ValueError, match="weight: .* is no weight"):
        Reward(weight=weight)


def test_prompts_and_completions_may_be_texts() -> None:
    assert shown("abc") == "'abc'" and len(shown("x" * 500)) < 210
    assert text_of("abc") == "abc" and text_of(SAID[1]) == "answer 1"
