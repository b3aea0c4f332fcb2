"""What a task gives a policy to learn from: examples of its own, and a weighted sum of scores."""

from __future__ import annotations

import pytest

from llmkit.data.tinyworld.sums import is_held_out
from llmkit.data.tinyworld.world import World
from llmkit.errors import UserError
from llmkit.tasks.digit_sums import DigitSums
from llmkit.tasks.task import Completion, Example, Task, name_of
from llmkit.tasks.tinyworld_answers import TinyworldAnswers
from llmkit.tasks.tinyworld_cloze import TinyworldCloze
from llmkit.tasks.tinyworld_sums import TinyworldSums

SETTINGS = {"seed": 2, "people": 100}


def numbers(example: Example) -> tuple[int, ...]:
    import re

    return tuple(map(int, re.findall(r"\d+", example.prompt[-1]["content"])))  # type: ignore[index]


def test_the_reward_is_the_weighted_sum_of_the_scores_that_count() -> None:
    example, task = Example([], "72"), TinyworldSums()
    assert task.reward(example, Completion("so 72.", False)) == 1.0
    assert task.reward(example, Completion("so 71.", True)) == pytest.approx(0.25)
    assert Task().reward(example, Completion("so 72.", True)) == 0


def test_a_task_without_training_examples_says_so() -> None:
    with pytest.raises(UserError, match="TinyworldCloze: has no training examples"):
        list(TinyworldCloze().training_examples(SETTINGS, 0))


def test_sums_to_train_on_are_none_of_those_measured() -> None:
    world = World(**SETTINGS)
    trained = list(TinyworldSums(limit=400).training_examples(SETTINGS, 0))
    measured = list(TinyworldSums(limit=400).examples(SETTINGS, 0))
    assert len(trained) == len(measured) == 400
    assert not any(is_held_out(world, *numbers(example)) for example in trained)
    assert all(is_held_out(world, *numbers(example)) for example in measured)
    assert all(int(e.answer) == sum(numbers(e)) for e in trained)
    assert trained == list(TinyworldSums(limit=400).training_examples(SETTINGS, 0))
    assert trained != list(TinyworldSums(limit=400).training_examples(SETTINGS, 1))


def test_all_the_pairs_there_are_where_no_limit_is_given() -> None:
    task = DigitSums(digits=1, held_out=0.3)
    pairs = {numbers(example) for example in task.training_examples({}, 0)}
    kept = {numbers(example) for example in task.examples({}, 0)}
    assert pairs | kept == {(a, b) for a in range(10) for b in range(10)}
    assert not {tuple(sorted(pair)) for pair in pairs} & {tuple(sorted(pair)) for pair in kept}
    assert 0.15 < len(kept) / 100 < 0.45


def test_digit_sums_hold_out_the_same_pairs_for_every_seed() -> None:
    task = DigitSums(digits=3)
    measured = [numbers(e) for seed in (0, 1) for e in task.examples({}, seed)]
    assert len(measured) == 2000 and all(task.keeps(*pair) for pair in measured)
    assert not any(
        task.keeps(*numbers(e)) for e in DigitSums(digits=3, limit=500).training_examples({}, 0)
    )
    assert all(int(e.answer) == sum(numbers(e)) for e in task.examples({}, 0))


@pytest.mark.parametrize(("key", "value"), [("digits", 0), ("digits", 10), ("held_out", 0.9)])
def test_digit_sums_refuse(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{key}: {value} is not"):
        DigitSums(**{key: value})


def test_answers_ask_of_every_sort() -> None:
    found = list(TinyworldAnswers(limit=30).examples(SETTINGS, 0))
    sorts = [example.details["question"] for example in found]
    assert {sort: sorts.count(sort) for sort in set(sorts)} == {
        "facts": 10,
        "unknown": 10,
        "sums": 10,
    }
    trained = list(TinyworldAnswers(limit=30).training_examples(SETTINGS, 0))
    assert {example.details["question"] for example in trained} == set(sorts)
    asked = {example.prompt[0]["content"] for example in found}  # type: ignore[index]
    assert not asked & {example.prompt[0]["content"] for example in trained}  # type: ignore[index]


def test_answers_are_judged_by_the_rule_of_their_sort() -> None:
    task = TinyworldAnswers()
    fact = {"question": "facts", "kind": "person", "attribute": "trade"}
    example = Example([], "baker", fact)
    right, wrong = {"right": 1, "credit": 1, "ended": 1}, {"right": 0, "credit": 0, "ended": 0}
    assert task.score(example, Completion("The trade is baker.", True)) == right
    assert task.score(example, Completion("baker or miller", False)) == wrong
    unknown = Example([], "", {**fact, "question": "unknown", "name": "Amy Kemp"})
    assert task.score(unknown, Completion("I do not know of Amy Kemp.", True))["right"] == 1
    assert task.score(unknown, Completion("Amy Kemp is a baker.", True))["right"] == 0
    total = Example([], "72", {"question": "sums"})
    assert task.score(total, Completion("72", True)) == right
    # One digit of two is right, and digits earn one half of a sum's reward.
    assert task.score(total, Completion("So 71", True)) == {**right, "right": 0, "credit": 0.25}


def test_names() -> None:
    assert name_of(TinyworldAnswers()) == "tinyworld_answers"
