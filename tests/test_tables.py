"""Figures and times in words, at the borders where the unit changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmkit.tables import (
    after_stage,
    columns,
    decimals,
    figure,
    in_order,
    interval,
    metrics_table,
    pair_cells,
    seconds,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "-"),
        (False, "no"),
        (1234567, "1,234,567"),
        (0.000123456, "0.0001235"),
        (12345.6, "12,346"),
        ({"low": 1, "high": [2, 0.5]}, "low 1, high 2, 0.5"),
        ("<b>", "<b>"),
    ],
)
def test_figures(value: Any, expected: str) -> None:
    assert figure(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_seconds(value: float, expected: str) -> None:
    assert seconds(value) == expected


def test_a_gate_that_was_not_measured_neither_passed_nor_failed() -> None:
    gates = [{"gate": name, "passed": passed} for name, passed in (("a", True), ("b", None))]
    said = after_stage({}, gates, 1.0, Path("runs/x"))
    assert "gates  1 of 2 passed; not measured: b" in said
    said = after_stage({}, [*gates, {"gate": "c", "passed": False}], 1.0, Path("runs/x"))
    assert "gates  1 of 3 passed; NOT: c; not measured: b" in said


CELL = {"value": 0.9, "low": 0.85, "high": 0.93, "n": 9}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, ".000"),
        (0.9996, "1.000"),
        (-0.25, "-.250"),
        (-1.5, "-1.500"),
        (9.5, "9.500"),
        (10.04, "10.0"),
        (-12345.67, "-12,345.7"),
    ],
)
def test_decimals(value: float, expected: str) -> None:
    assert decimals(value) == expected


def test_interval() -> None:
    assert interval({"value": 0.9985, "low": 0.9914, "high": 1.0}) == ".999 [.991, 1.000]"
    assert interval({"value": 2.5, "low": 2.0, "high": 13.0}) == "2.500 [2.000, 13.0]"


def test_a_task_is_known_by_its_first_metric_that_is_not_ended() -> None:
    metrics = {
        "base": {"bits_per_byte/bits_per_byte": CELL, "bits_per_byte/nats_per_token": CELL},
        "sft": {
            "replies/ended": CELL,
            "replies/word_f1": CELL,
            "tinyworld_facts/accuracy": CELL,
            "tinyworld_facts/refused": CELL,
            "only/ended": CELL,
        },
    }
    found = columns(metrics)
    assert [(c.question, c.heading) for c in found if c.main] == [
        ("bits_per_byte", ""),
        ("replies", "word f1"),
        ("facts", "accuracy"),
        ("only", "ended"),
    ]
    assert [(c.question, c.heading) for c in found if not c.main] == [
        ("bits_per_byte", "nats per token"),
        ("replies", "ended"),
        ("facts", "wrongly refused"),
    ]


def test_tasks_keep_their_names_where_the_short_one_is_taken() -> None:
    metrics = {"sft": {"tinyworld_sums/accuracy": CELL, "sums/accuracy": CELL}}
    assert [c.question for c in columns(metrics)] == ["tinyworld_sums", "sums"]


def test_models_come_in_the_order_of_the_stages_and_strangers_last() -> None:
    metrics: dict[str, Any] = {name: {} for name in ("gpt2", "ppo", "a/b", "sft", "pretrain")}
    ordered = in_order(metrics, ["pretrain", "sft", "reward", "ppo"])
    assert list(ordered) == ["pretrain", "sft", "ppo", "gpt2", "a/b"]


def test_what_does_not_fit_follows_below_and_nothing_is_lost() -> None:
    keys = [f"task_{n}/{metric}" for n in range(9) for metric in ("accuracy", "ended")]
    values = {key: {**CELL, "value": number / 100} for number, key in enumerate(keys)}
    metrics = {"base": {"task_0/accuracy": CELL}, "a_model_of_some_length": values}
    table = metrics_table(metrics, width=100)
    assert max(map(len, table.splitlines())) <= 100
    blocks = table.split("\n\n")
    assert [block.splitlines()[0].split()[1:] for block in blocks] == [
        [f"task_{n}" for n in range(4)],
        [f"task_{n}" for n in range(4, 8)],
        ["task_8"],
        [f"task_{n}" for n in range(4)],
        [f"task_{n}" for n in range(4, 8)],
        ["task_8"],
    ]
    assert set(blocks[0].splitlines()[1].split()) == {"accuracy"}
    assert set(blocks[3].splitlines()[1].split()) == {"ended"}
    assert all(decimals(cell["value"]) + " [" in table for cell in values.values())
    rows = [[line.split()[0] for line in block.splitlines()[3:]] for block in blocks]
    assert rows == [["base", "a_model_of_some_length"], *[["a_model_of_some_length"]] * 5]


def test_what_fits_is_one_table_with_the_main_figures_first() -> None:
    table = metrics_table({"sft": {"a/x": CELL, "a/y": CELL, "b/x": CELL}, "ppo": {"b/x": CELL}})
    assert table.splitlines()[0].split() == ["model", "a", "b", "a"]
    assert table.splitlines()[-1].split() == ["ppo", "-", ".900", "[.850,", ".930]", "-"]


def test_one_column_too_wide_still_stands_alone() -> None:
    table = metrics_table({"m": {"t" * 40 + "/x": CELL, "u/x": CELL}}, width=30)
    assert [len(block.splitlines()) for block in table.split("\n\n")] == [4, 4]


def test_held_out_pairs_and_kinds_become_columns() -> None:
    figures = {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.94, "steps": 3}
    assert pair_cells(figures) == {}, "accuracy alone may be anything"
    figures |= {"length_baseline": 0.5, "length_baseline_low": 0.4, "length_baseline_high": 0.6}
    all_pairs = {"value": 0.9, "low": 0.85, "high": 0.94}
    alone = {"value": 0.5, "low": 0.4, "high": 0.6}
    assert pair_cells(figures) == {"all pairs/accuracy": all_pairs, "length alone/accuracy": alone}
    kinds = {"": CELL, "form": CELL}
    found = pair_cells(figures | {"accuracy_by_kind": kinds})
    assert list(found)[2:] == ["other/accuracy", "form/accuracy"]
    assert [c.question for c in columns({"reward": found})] == [
        "all pairs",
        "length alone",
        "other",
        "form",
    ]


def test_pairs_are_read_as_the_stages_write_them() -> None:
    from llmkit.data.chat.preferences import Pair
    from llmkit.trainers.pair_figures import accuracy_figures, length_baseline

    pairs = [Pair([], "yes", "certainly not", "form"), Pair([], "no, none", "yes", "sums")] * 5
    figures = accuracy_figures([1.0, -1.0] * 5, pairs) | length_baseline(pairs, pairs)
    found = pair_cells(figures)
    assert {key: cell["value"] for key, cell in found.items()} == {
        "all pairs/accuracy": 0.5,
        "length alone/accuracy": 0.5,
        "form/accuracy": 1.0,
        "sums/accuracy": 0.0,
    }
    assert all(cell["low"] <= cell["value"] <= cell["high"] for cell in found.values())
