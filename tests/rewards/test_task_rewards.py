"""Tasks as rewards: what is measured is what is earned."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmkit.errors import UserError
from llmkit.rewards.task import TaskReward, tasks_reward
from llmkit.tasks.digit_sums import DigitSums
from llmkit.tasks.tinyworld_sums import TinyworldSums

UNKNOWN = {"question": "unknown", "kind": "person", "attribute": "trade", "name": "Amy Kemp"}
FACT = {"question": "facts", "kind": "person", "attribute": "trade"}
SUM = {"question": "sums"}


def said(*texts: str) -> list[Any]:
    return [[{"role": "assistant", "content": text}] for text in texts]


def asked(count: int) -> list[Any]:
    return [[{"role": "user", "content": "?"}]] * count


def test_each_row_is_judged_by_its_own_rule() -> None:
    function = TaskReward(task="tinyworld_answers").callable({}, None, "cpu")  # type: ignore[arg-type]
    rewards = function(
        prompts=asked(4),
        completions=said(
            "I do not know of Amy Kemp.", "so 72.", "so 71.", "Amy Kemp works as a baker."
        ),
        answer=["", "72", "72", "baker"],
        details=[json.dumps(row) for row in (UNKNOWN, SUM, SUM, FACT)],
        ended=[True] * 4,
    )
    assert rewards == [1.0, 1.0, 0.25, 1.0]  # of 71, one digit is right: half of a half


def test_a_row_of_no_known_sort_stops() -> None:
    function = TaskReward(task="tinyworld_answers").callable({}, None, "cpu")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="an example is of the sort None, not of facts, unknown"):
        function(asked(1), said("x"), answer=[""], details=["{}"], ended=[True])


def test_several_tasks_and_the_means_of_their_metrics() -> None:
    function = tasks_reward({"tinyworld_sums": TinyworldSums(), "digit_sums": DigitSums()})
    logged: dict[str, float] = {}
    rewards = function(
        prompts=asked(3),
        completions=said("so 72.", "so 71.", "no idea"),
        answer=["72", "72", "72"],
        details=["{}"] * 3,
        ended=[True, True, False],
        task=["tinyworld_sums", "tinyworld_sums", "digit_sums"],
        log_metric=logged.__setitem__,
    )
    # half for the whole number, half for its digits: of 71 the tens are right
    assert rewards == [1.0, 0.25, 0.0]
    assert logged == {
        "tinyworld_sums/accuracy": 0.5,
        "tinyworld_sums/digits": 0.75,
        "tinyworld_sums/ended": 1.0,
        "digit_sums/accuracy": 0.0,
        "digit_sums/digits": 0.0,
        "digit_sums/ended": 0.0,
    }
    assert function.__name__ == "tasks"
    assert tasks_reward({"digit_sums": DigitSums()}).__name__ == "digit_sums"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("tinyworld_sum", "no 'tinyworld_sum' here; did you mean tinyworld_sums?"),
        ("tinyworld_cloze", "tinyworld_cloze measures, and is no reward"),
        ("bits_per_byte", "bits_per_byte measures, and is no reward"),
        ("word_problems", "word_problems needs keys of its own"),
    ],
)
def test_what_is_no_reward(name: str, what: str) -> None:
    with pytest.raises(ValueError, match=what.replace("?", r"\?")):
        TaskReward(task=name)
