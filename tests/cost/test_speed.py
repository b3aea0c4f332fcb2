"""The model of speed: fitted on any three published runs, it predicts the fourth."""

from __future__ import annotations

import pytest

from llmkit.cost.hardware import hardware_of
from llmkit.cost.speed import (
    PUBLISHED,
    Published,
    fit,
    predicted_mfu,
    published_for,
    slowness,
    speed_of,
)

RUNS = pytest.mark.parametrize("run", PUBLISHED, ids=lambda run: run.name)


@RUNS
def test_three_runs_predict_the_fourth(run: Published) -> None:
    others = [other for other in PUBLISHED if other is not run]
    predicted = predicted_mfu(run.shape, 1024, run.hardware, fit(others))
    assert predicted == pytest.approx(run.mfu, rel=0.15)


def test_a_run_that_was_in_no_fit() -> None:
    """124M on 8 H100s by llm.c: 3.745 M tokens/s, https://github.com/KellerJordan/modded-nanogpt
    records/track_1_short/2024-10-13_llmc."""
    found = speed_of(PUBLISHED[0].shape, 1024, hardware_of("8xH100"))
    assert found.why == "predicted"
    assert found.tokens_per_second == pytest.approx(3.745e6, rel=0.15)


@RUNS
def test_a_published_run_has_its_own_speed(run: Published) -> None:
    found = speed_of(run.shape, 1024, run.hardware)
    assert found.tokens_per_second == run.tokens_per_step / run.seconds_per_step
    assert found.why == f"published: {run.source}"
    assert published_for(run.shape, 512, run.hardware) is None
    assert published_for(run.shape, 1024, hardware_of("4xA100")) is None


def test_the_fit_goes_through_two_points() -> None:
    a, b = fit(PUBLISHED[::3])
    for run in PUBLISHED[::3]:
        assert a + b * slowness(run.shape, 1024, run.hardware) == pytest.approx(1 / run.mfu)


def test_what_is_given_counts() -> None:
    shape, hardware = PUBLISHED[0].shape, hardware_of("8xA100")
    assert speed_of(shape, 1024, hardware, given_rate=1e6).tokens_per_second == 1e6
    found = speed_of(shape, 1024, hardware, given_mfu=0.5)
    assert found.tokens_per_second == pytest.approx(0.5 * 8 * 312e12 / 803_261_952)


def test_no_prediction_is_better_than_anybody_has_been() -> None:
    wide = PUBLISHED[3].shape
    assert predicted_mfu(wide, 1024, hardware_of("A100"), (0.5, 1.0)) == 0.72
    assert predicted_mfu(wide, 1024, hardware_of("2xcpu")) == 0.15
