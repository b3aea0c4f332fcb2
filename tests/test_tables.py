"""Figures and times in words, at the borders where the unit changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmkit.tables import after_stage, figure, seconds


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
