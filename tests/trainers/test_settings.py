"""What is wrong with the keys that trainer stages share."""

from __future__ import annotations

from typing import Any

from llmkit.trainers.settings import trainer_problems


def _problems(patches: Any, **args: Any) -> list[tuple[tuple[str | int, ...], str]]:
    found = trainer_problems(args, {}, patches, "adamw", None)
    return [(problem.path, problem.what) for problem in found]


def test_label_smoothing_does_not_go_without_the_logits() -> None:
    ((path, what),) = _problems(["gelu", "fused_head_loss"], label_smoothing_factor=0.1)
    assert path == ("args", "label_smoothing_factor") and "needs the logits" in what
    for patches in ("auto", "none", ["gelu"]):
        assert _problems(patches, label_smoothing_factor=0.1) == []
    assert _problems(["fused_head_loss"], label_smoothing_factor=0.0) == []
