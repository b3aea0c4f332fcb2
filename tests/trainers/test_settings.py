"""What is wrong with the keys that trainer stages share."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

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


BOUNDS = [
    ("adam_beta1", (0.0, 0.9), (1.0, -0.1)),
    ("adam_beta2", (0.0, 0.999), (1.5, -1.0)),
    ("adam_epsilon", (0, 1e-8), (-1, float("nan"))),
    ("learning_rate", (0, 1e-3), (-1e-3, float("inf"))),
    ("weight_decay", (0, 0.1), (-0.1,)),
]


@pytest.mark.parametrize(("key", "good", "bad"), BOUNDS)
def test_ranges_are_those_of_torch(key: str, good: Any, bad: Any) -> None:
    """What AdamW itself takes and refuses; it lets what is infinite pass, which trains nothing."""

    def adamw(value: float) -> None:
        given: dict[str, Any] = {"betas": [0.9, 0.999]}
        if key in ("adam_beta1", "adam_beta2"):
            given["betas"][int(key[-1]) - 1] = value
        else:
            given[{"adam_epsilon": "eps", "learning_rate": "lr"}.get(key, key)] = value
        torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], **given)

    for value in good:
        adamw(value)
        assert _problems("none", **{key: value}) == []
    for value in bad:
        if math.isfinite(value):
            with pytest.raises(ValueError, match="Invalid"):
                adamw(value)
        ((path, what),) = _problems("none", **{key: value})
        assert path == ("args", key) and what.startswith(str(value))


def test_workers_are_counted_from_none_as_torch_counts_them() -> None:
    for workers in (0, 2):
        torch.utils.data.DataLoader([1], num_workers=workers)
        assert _problems("none", dataloader_num_workers=workers) == []
    with pytest.raises(ValueError, match="num_workers"):
        torch.utils.data.DataLoader([1], num_workers=-1)
    assert _problems("none", dataloader_num_workers=-1) == [
        (("args", "dataloader_num_workers"), "-1 is negative")
    ]


def test_shares_and_norms_have_their_range() -> None:
    assert _problems("none", max_grad_norm=0, label_smoothing_factor=0.5) == []
    for wrong in ({"max_grad_norm": -1}, {"label_smoothing_factor": 1}):
        ((path, _),) = _problems("none", **wrong)
        assert path == ("args", *wrong)
