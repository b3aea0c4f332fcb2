"""Curves: round ticks that span the data, points where they belong, nothing lost at the ends."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from llmkit.report import curves


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.3, 4.1, [0, 1, 2, 3, 4, 5]),
        (0, 1000, [0, 200, 400, 600, 800, 1000]),
        (-1e-4, 3e-4, [-1e-4, 0, 1e-4, 2e-4, 3e-4]),
    ],
)
def test_ticks_are_round_and_span(low: float, high: float, expected: list[float]) -> None:
    assert curves.ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, 7.62, -3.0, 1e-9])
def test_ticks_of_one_value_still_span(value: float) -> None:
    marks = curves.ticks(value, value)
    assert marks[0] <= value <= marks[-1] and marks[0] < marks[-1]


def test_ends_of_the_line_are_the_corners_of_the_plot() -> None:
    svg = ElementTree.fromstring(curves.curve({"loss": [(0, 10), (5, 4), (10, 0)]}, "step", "l"))
    line = next(element for element in svg.iter() if element.tag == "polyline")
    points = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    assert points[0] == (curves.LEFT, curves.TOP)
    assert points[-1] == (curves.WIDTH - curves.RIGHT, curves.HEIGHT - curves.BOTTOM)
    middle = (curves.TOP + 0.6 * (curves.HEIGHT - curves.TOP - curves.BOTTOM)) - points[1][1]
    assert abs(middle) < 0.1


def test_many_points_are_thinned_with_both_ends_kept() -> None:
    points = [(float(i), 0.0) for i in range(10_007)]
    thinned = curves.thinned(points)
    assert len(thinned) <= curves.MOST_POINTS + 1
    assert thinned[0] == points[0] and thinned[-1] == points[-1]
    steps = {b[0] - a[0] for a, b in zip(thinned, thinned[1:-1], strict=False)}
    assert len(steps) == 1


def test_what_is_not_finite_is_left_out() -> None:
    assert curves.curve({"loss": [(1, math.nan), (2, math.inf)]}, "step", "l") == ""
    assert curves.curve({}, "step", "l") == ""
    svg = curves.curve({"a<b": [(1, math.nan), (2, 3.0), (3, 4.0)]}, "step", "<i>")
    assert "a&lt;b" in svg and "a<b" not in svg and "<i>" not in svg
    assert len(re.findall(r"points=\"([^\"]*)\"", svg)[0].split()) == 2


def test_the_drawing_is_told_in_words() -> None:
    lines = {"loss": [(1.0, 7.1625), (400.0, 0.6221)], "eval_loss": [(400.0, 0.5)]}
    svg = ElementTree.fromstring(curves.curve(lines, "step", "loss (nats)"))
    assert svg.attrib["role"] == "img" and svg[0].tag == "title"
    assert svg[0].text == (
        "loss (nats): loss 7.16 at step 1 to 0.622 at step 400; eval_loss 0.5 at step 400"
    )
