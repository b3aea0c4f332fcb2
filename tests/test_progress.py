"""What a progress line says of the time that is left."""

from __future__ import annotations

import pytest

from llmkit import progress
from llmkit.progress import Progress, clock


def test_time_left_in_words() -> None:
    assert [clock(value) for value in (0, 16, 725, 3600, 11_250, 486_000)] == [
        "0:00",
        "0:16",
        "12:05",
        "1:00:00",
        "3:07:30",
        "135:00:00",
    ]


def test_the_time_left_of_a_long_training(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = Progress("pretrain", 18_865, "steps")
    now[0] = 300.0
    shown.update(1000, "1,747,626 tokens/s")
    line = "pretrain: 1,000/18,865 steps (5 %), 3.3 steps/s, 1:29:20 left, 1,747,626 tokens/s"
    assert shown.line() == line
