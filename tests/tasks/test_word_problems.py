"""Word problems: rows of GSM8K, ASDiv and MAWPS, and the number that answers them."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llmkit.errors import InputError
from llmkit.tasks.numbers import last_number, right_digits
from llmkit.tasks.task import Completion, Example
from llmkit.tasks.word_problems import PathProblems, WordProblems, problem_of

GSM8K = {"question": "How many?", "answer": "48/2 = <<48/2=24>>24 clips.\n#### 1,072"}
ASDIV = {"body": "Seven apples and two.", "question": "How many? ", "answer": "9 (apples)"}
MAWPS = {"input": "She has 27 left. How many?", "target": 43.0, "type": "singleeq"}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 72.", 72),
        ("She has $1,200 left", 1200),
        ("1,200,000 and a half", 1_200_000),
        ("it is 0.50", Decimal("0.5")),
        ("-3", -3),
        ("10-3", 3),
        ("12,34", 34),  # no thousands: two numbers
        ("v2 and x7", None),
        ("none", None),
        ("", None),
    ],
)
def test_the_last_number(text: str, number: Any) -> None:
    assert last_number(text) == number


def test_right_digits_are_counted_from_the_last() -> None:
    assert right_digits(Decimal(1172), "172") == 3 / 4
    assert right_digits(None, "7") == 0 and right_digits(Decimal(7), "7") == 1


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (GSM8K, ("How many?", "1072")),
        (ASDIV, ("Seven apples and two. How many?", "9")),
        (MAWPS, ("She has 27 left. How many?", "43")),
        ({"question": "q", "answer": "$12.50"}, ("q", "12.5")),
        ({"question": "q", "answer": -4}, ("q", "-4")),
    ],
)
def test_rows(row: dict[str, Any], problem: tuple[str, str]) -> None:
    assert problem_of(row) == problem


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"question": "q", "answer": "5:45"}, "the answer '5:45' is no number"),
        ({"question": "q", "answer": "Yes"}, "the answer 'Yes' is no number"),
        ({"question": " ", "answer": "1"}, "'question' is empty"),
        ({"text": "x"}, "columns in no known form"),
    ],
)
def test_rows_that_cannot_be_judged(row: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        problem_of(row)


def write(file: Path, *rows: Any) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_examples_of_several_sources(tmp_path: Path) -> None:
    one = PathProblems(path=write(tmp_path / "test.json", ASDIV, MAWPS))
    two = PathProblems(path=write(tmp_path / "train.jsonl", GSM8K, GSM8K, MAWPS), split="[:2]")
    task = WordProblems(dataset=[one, two])
    found = list(task.examples({}, 0))
    assert sorted(example.answer for example in found) == ["1072", "1072", "43", "9"]
    assert found == list(task.training_examples({}, 0)) == list(task.examples({}, 0))
    assert found[0].prompt[0]["role"] == "user" and len(found[0].prompt) == 1  # type: ignore[index]
    assert len(list(WordProblems(dataset=[one, two], limit=3).examples({}, 0))) == 3
    assert {file.name for file in task.files()} == {"test.json", "train.jsonl"}


def test_a_row_that_cannot_be_judged_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ASDIV, {"question": "q", "answer": "Yes"})
    with pytest.raises(InputError, match=r"a.jsonl:2: the answer 'Yes' is no number"):
        list(WordProblems(dataset=[PathProblems(path=path)]).examples({}, 0))
    task = WordProblems(dataset=[PathProblems(path=path)], max_bad_rows=1)
    assert len(list(task.examples({}, 0))) == 1


@pytest.mark.parametrize(
    ("said", "accuracy", "number"),
    [("7 + 2 = 9", 1, 1), ("9.0 apples", 1, 1), ("9 of 10", 0, 1), ("nine", 0, 0)],
)
def test_scores(said: str, accuracy: float, number: float) -> None:
    found = WordProblems(dataset=[]).score(Example([], "9"), Completion(said, True))
    assert found == {"accuracy": accuracy, "number": number, "ended": 1}
