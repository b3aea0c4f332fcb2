"""Curves as inline SVG, drawn by hand: no script, no font and no file from elsewhere.

Colours and dashes are CSS classes (`s0`, `s1`, ...) that the page defines for light and dark.
https://developer.mozilla.org/docs/Web/SVG/Element/polyline
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

COLOURS = 6  # lines that can be told apart, by colour and dash
WIDTH, HEIGHT = 440, 210  # pixels of the whole drawing; a phone shows it nearly at that size
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 40  # margins for the labels of the axes
MOST_POINTS = 600  # a line holds no more than the eye can tell apart on its width
MOST_TICKS = 6


def curve(series: Mapping[str, Points], x_label: str, title: str) -> str:
    """An `<svg>` with a line for each series of (x, y); empty text where no point is finite.

    Its `<title>` says in words where each line begins and ends, for those who cannot see it.
    """
    finite = {
        label: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        for label, points in series.items()
    }
    drawn = {label: thinned(points) for label, points in finite.items() if points}
    if not drawn:
        return ""
    x_axis = _axis([x for points in drawn.values() for x, _ in points])
    y_axis = _axis([y for points in drawn.values() for _, y in points])
    parts = [f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    said = "; ".join(in_words(label, points, x_label) for label, points in drawn.items())
    parts.append(f"<title>{escape(f'{title}: {said}')}</title>")
    parts += _grid(x_axis, y_axis, x_label)
    for index, points in enumerate(drawn.values()):
        parts.append(_line([_place(x, y, x_axis, y_axis) for x, y in points], index))
    return "".join([*parts, "</svg>"])


def in_words(label: str, points: Points, x_label: str) -> str:
    """`loss 7.16 at step 1 to 0.622 at step 400`."""
    (x, y), (last_x, last_y) = points[0], points[-1]
    begin = f"{label} {y:.3g} at {x_label} {x:g}"
    return begin if len(points) == 1 else f"{begin} to {last_y:.3g} at {x_label} {last_x:g}"


def thinned(points: Points) -> list[tuple[float, float]]:
    """At most MOST_POINTS of the points, evenly, the first and the last always among them."""
    stride = -(-len(points) // MOST_POINTS)
    if stride <= 1:
        return list(points)
    return [*points[:-1:stride], points[-1]]


def ticks(low: float, high: float) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) that span low to high.

    >>> ticks(0.3, 4.1)
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    """
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / (MOST_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def _axis(values: Sequence[float]) -> list[float]:
    return ticks(min(values), max(values))


def _place(x: float, y: float, x_axis: list[float], y_axis: list[float]) -> tuple[float, float]:
    """Pixels of a point."""
    across = (x - x_axis[0]) / (x_axis[-1] - x_axis[0])
    up = (y - y_axis[0]) / (y_axis[-1] - y_axis[0])
    return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def _grid(x_axis: list[float], y_axis: list[float], x_label: str) -> list[str]:
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for value in y_axis:
        _, y = _place(x_axis[0], value, x_axis, y_axis)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in x_axis:
        x, _ = _place(value, y_axis[0], x_axis, y_axis)
        parts.append(f'<text x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{value:g}</text>')
    middle = (LEFT + right) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
    )
    return parts


def _line(places: Sequence[tuple[float, float]], index: int) -> str:
    if len(places) == 1:
        x, y = places[0]
        return f'<circle class="s{index}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline class="s{index}" points="{path}"/>'
