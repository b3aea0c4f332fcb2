"""95 % intervals of proportions, means and ratios, in closed form.

Sources: E. B. Wilson (1927), JASA 22, 209-212 (score interval of a proportion); Student's t by
Abramowitz and Stegun 26.7.3 and 26.7.4; W. G. Cochran, Sampling Techniques, 3rd edition, section
2.11 (variance of a ratio of sums).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95
EXACT_DEGREES = 1000  # above, Student's t differs from the normal by less than 0.3 %


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with the bounds of its 95 % interval, from `n` observations."""

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float | int]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def wilson(successes: float, n: int) -> Figure:
    """The share of `successes` in `n` with Wilson's score interval, which never leaves 0..1:

    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    p = successes / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # Rounding must not put p = 0 or p = 1 outside its own interval.
    low, high = min((middle - half) / scale, p), max((middle + half) / scale, p)
    return Figure(p, max(low, 0.0), min(high, 1.0), n)


def mean(values: Sequence[float]) -> Figure:
    """The mean with Student's interval, mean +- t s / sqrt(n). Raises ValueError below two."""
    n = len(values)
    middle = math.fsum(values) / n
    squares = math.fsum((value - middle) ** 2 for value in values)
    return _around(middle, squares, n, 1.0)


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Figure:
    """sum(y) / sum(x) over clusters (documents), with the variance of a ratio estimate:

    var = n / (n - 1) * sum((y - R x)^2) / sum(x)^2
    """
    n, total = len(numerators), math.fsum(denominators)
    value = math.fsum(numerators) / total
    pairs = zip(numerators, denominators, strict=True)
    squares = math.fsum((y - value * x) ** 2 for y, x in pairs)
    return _around(value, squares, n, total / n)


def _around(value: float, squares: float, n: int, scale: float) -> Figure:
    if n < 2:
        raise ValueError("one observation says nothing of the spread: an interval takes two")
    half = t_quantile(n - 1) * math.sqrt(squares / (n - 1) / n) / scale
    return Figure(value, value - half, value + half, n)


@functools.cache
def t_quantile(degrees: int) -> float:
    """The t with a two-sided probability of 95 % between -t and t."""
    if degrees > EXACT_DEGREES:
        return NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    low, high = 0.0, 13.0  # t(1) = 12.706 is the largest
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_within(middle, degrees) < CONFIDENCE else (low, middle)
    return high


def t_within(t: float, degrees: int) -> float:
    """P(|T| < t) for Student's T; the finite sum in theta = atan(t / sqrt(degrees))."""
    theta = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(theta), math.cos(theta)
    if degrees % 2:
        term = total = cosine if degrees > 1 else 0.0
        for k in range(3, degrees - 1, 2):
            term *= cosine * cosine * (k - 1) / k
            total += term
        return 2 / math.pi * (theta + sine * total)
    term = total = 1.0
    for k in range(2, degrees - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    return sine * total
