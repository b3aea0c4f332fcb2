"""What cannot be done in a launch that spreads the model is told before the first stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmkit.errors import UserError
from llmkit.ranks import spread_by
from llmkit.recipe import Recipe

FSDP = {"ACCELERATE_USE_FSDP": "true"}
DEEPSPEED = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}
ZERO3 = DEEPSPEED | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}
SPIKES = {"pretrain.skip_spikes": {}}
PLAIN = {f"{name}.optimizer": "adamw" for name in ("pretrain", "sft", "reward")}


@pytest.mark.parametrize(
    ("stage", "environment", "overrides", "message"),
    [
        ("pretrain", DEEPSPEED, {}, r"pretrain\.optimizer: needs whole matrices.*fsdp2\.yaml"),
        ("sft", ZERO3, {}, r"sft\.optimizer: needs whole matrices"),
        ("pretrain", DEEPSPEED, PLAIN | SPIKES, r"pretrain\.skip_spikes: cannot leave"),
        ("reward", ZERO3, PLAIN, r"reward\.new_layers: copies layers.*ddp\.yaml"),
        ("ppo", FSDP, {}, r"ppo: its value model is whole on each process: no FSDP; .*ddp\.yaml"),
        ("ppo", DEEPSPEED, PLAIN, "ppo: its value model .* no DEEPSPEED"),
    ],
)
def test_refused_before_the_first_stage(
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    environment: dict[str, str],
    overrides: dict[str, object],
    message: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    component = Recipe.load("quickstart", overrides).stages[stage]
    with pytest.raises(UserError, match=message):
        component.prepare(stage)


@pytest.mark.parametrize("stage", ["pretrain", "sft", "reward", "dpo", "ppo", "grpo"])
def test_plain_launch_refuses_nothing(stage: str, tmp_path: Path) -> None:
    Recipe.load("quickstart", SPIKES).stages[stage].prepare(stage)


def test_who_spreads_the_model() -> None:
    assert spread_by(FSDP) == "FSDP" and spread_by(ZERO3) == "DEEPSPEED"
    assert spread_by({"ACCELERATE_USE_FSDP": "false"}) == spread_by({}) == ""
