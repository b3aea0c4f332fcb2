"""Intervals against published tables and worked examples."""

from __future__ import annotations

import math

import pytest

from llmkit.metrics.intervals import mean, ratio, t_quantile, wilson


@pytest.mark.parametrize(
    ("degrees", "table"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (30, 2.042), (120, 1.980)],
)
def test_students_t_equals_the_table(degrees: int, table: float) -> None:
    assert t_quantile(degrees) == pytest.approx(table, abs=6e-4)


def test_students_t_goes_over_into_the_normal() -> None:
    assert t_quantile(1000) == pytest.approx(t_quantile(1001), rel=2e-3)
    assert t_quantile(10**6) == pytest.approx(1.959964, abs=1e-6)


def test_wilson_equals_newcombes_example() -> None:
    # R. G. Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263, 15 of 148, 0 of 20
    for successes, n, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)]:
        figure = wilson(successes, n)
        assert (figure.low, figure.high) == (
            pytest.approx(low, abs=5e-5),
            pytest.approx(high, abs=5e-5),
        )
    none = wilson(0, 20)
    assert (none.value, none.low) == (0, 0) and none.high == pytest.approx(0.1611, abs=5e-5)
    every = wilson(20, 20)
    assert (every.value, every.high) == (1, 1) and every.low == pytest.approx(1 - 0.1611, abs=5e-5)


def test_mean_by_hand() -> None:
    # 1..5: mean 3, s^2 = 10/4, half = 2.776 * sqrt(2.5 / 5)
    figure = mean([1, 2, 3, 4, 5])
    assert figure.value == 3 and figure.n == 5
    assert figure.high - 3 == pytest.approx(2.7764 * math.sqrt(0.5), rel=1e-4)
    assert 3 - figure.low == pytest.approx(figure.high - 3)


def test_ratio_by_hand() -> None:
    # sums 15 / 6 = 2.5; residuals -0.5, -1, 1.5: squares 3.5; var = 3/2 * 3.5 / 36
    figure = ratio([2, 4, 9], [1, 2, 3])
    assert figure.value == 2.5
    assert figure.high - 2.5 == pytest.approx(4.3027 * math.sqrt(1.5 * 3.5 / 36), rel=1e-4)


def test_ratio_of_equal_sizes_is_the_mean() -> None:
    one, two = ratio([2, 6, 10, 3], [2, 2, 2, 2]), mean([1, 3, 5, 1.5])
    assert (one.value, one.low, one.high) == pytest.approx((two.value, two.low, two.high))


def test_one_observation_has_no_interval() -> None:
    with pytest.raises(ValueError, match="takes two"):
        mean([0.5])
