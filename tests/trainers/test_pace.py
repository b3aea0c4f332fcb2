"""Tokens/s, MFU and dollars, over ranks and processes, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BloomConfig, GPT2Config, GPT2LMHeadModel

from llmkit.trainers import pace as pace_module
from llmkit.trainers.pace import Meter, Pace, Rates, Spent


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(pace_module.time, "monotonic", lambda: now[0])
    return now


def test_eight_ranks_at_two_dollars(clock: list[float]) -> None:
    meter = Meter(before=Spent(tokens=1000, seconds=1800.0))
    pace = Pace(meter, ranks=8, price=2.0, rates=Rates(100, 120, 1e6))
    clock[0] += 900
    meter.tokens = 900_000
    assert pace.tokens_per_second() == 8000
    assert pace.spent() == Spent(tokens=1000 + 8 * 900_000, seconds=2700.0)
    assert pace.cost() == {"cost": 12.0}, "three quarters of an hour of eight at $2"
    assert pace.mfu(8000) == {"mfu": 0.8, "mfu_nanogpt": 0.96}
    assert pace.in_words() == "8,000 tokens/s, MFU 80.0 %, $12.00"


def test_a_log_tells_of_the_time_since_the_last(clock: list[float]) -> None:
    meter = Meter()
    pace = Pace(meter)
    clock[0], meter.tokens = 110.0, 1000
    assert pace.since_the_last() == {"tokens_per_second": 100.0}
    clock[0], meter.tokens = 112.0, 1600
    assert pace.since_the_last() == {"tokens_per_second": 300.0}
    assert pace.in_words() == "133 tokens/s"


def test_what_was_spent_survives_a_checkpoint(tmp_path: Path) -> None:
    Spent(7, 1 / 3).save(tmp_path)
    assert Spent.until(tmp_path) == Spent(7, 1 / 3)


def test_rates_of_a_model() -> None:
    """GPT-2 124M at 1,024 tokens; the peak is known where torch's name of the device is."""
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config())
    assert Rates.of(model, 1024, 8) == Rates(803_261_952, 855_166_464, None)
    assert Rates(1, 1, None).mfu(5.0) == {}
    model.config = BloomConfig()
    assert Rates.of(model, 1024, 8) is None
