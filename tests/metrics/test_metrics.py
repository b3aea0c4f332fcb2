"""The `evaluate.Metric` classes: they work offline, and give the figures of the formulas."""

from __future__ import annotations

import math

import evaluate
import pytest

from llmkit.metrics.likelihood import BitsPerByte, NatsPerToken
from llmkit.metrics.mean import Mean
from llmkit.metrics.proportion import Proportion


def test_proportion() -> None:
    metric = Proportion()
    assert isinstance(metric, evaluate.Metric)
    found = metric.compute(scores=[1, 0, 1, 1])
    assert found["value"] == 0.75 and found["n"] == 4
    # z = 1.96, p = 3/4, n = 4 put into the formula
    assert found["low"] == pytest.approx(0.30064, abs=1e-5)
    assert found["high"] == pytest.approx(0.95441, abs=1e-5)


def test_proportion_refuses_other_scores() -> None:
    with pytest.raises(ValueError, match="0 and 1"):
        Proportion().compute(scores=[0.5, 1])


def test_mean_in_batches() -> None:
    metric = Mean()
    metric.add_batch(scores=[0.0, 1.0])
    metric.add(scores=0.5)
    found = metric.compute()
    assert found["value"] == 0.5 and found["n"] == 3
    assert found["high"] == pytest.approx(0.5 + 4.30265 * 0.5 / math.sqrt(3), rel=1e-5)


def test_bits_per_byte_is_a_ratio_of_sums() -> None:
    found = BitsPerByte().compute(nats=[math.log(2) * 8, math.log(2) * 40], num_bytes=[8, 16])
    assert found["value"] == pytest.approx(2.0)  # 48 bits over 24 bytes, not the mean of 1 and 2.5
    assert found["low"] < 2 < found["high"] and found["n"] == 2


def test_nats_per_token() -> None:
    assert NatsPerToken().compute(nats=[3.0, 5.0], num_tokens=[1, 3])["value"] == 2.0
