"""The launch shapes that a plan names are those that the run does not refuse, stage by stage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from plans import LADDER, gpt2, planned

from llmkit.cost.hardware import hardware_of
from llmkit.errors import UserError
from llmkit.planning.launches import Launch, launches_of
from llmkit.planning.work import KINDS
from llmkit.recipe import Recipe

SHAPES = Path(__file__).resolve().parents[2] / "accelerate_configs"
PLAIN = {f"{name}.optimizer": "adamw" for name in ("pretrain", "sft", "reward")}
SPIKES = {"pretrain.skip_spikes": {}}
RECIPES = {
    "muon": {},
    "adamw": PLAIN,
    "spikes": PLAIN | SPIKES,
    "muon in one": PLAIN | {"sft.optimizer": "muon"},
}


def environment_of(shape: str) -> dict[str, str]:
    """What `accelerate launch` sets for a file of accelerate_configs/."""
    config = yaml.safe_load((SHAPES / f"{shape}.yaml").read_text())
    found = {f"ACCELERATE_USE_{config['distributed_type']}": "true"}
    stage = config.get("deepspeed_config", {}).get("zero_stage")
    return found | ({"ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage)} if stage else {})


def refused(recipe: Recipe, name: str, shape: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the stage itself refuses to be launched so."""
    stage = recipe.stages[name]
    with monkeypatch.context() as patch:
        # DeepSpeed need not be installed here to know what does not go with it.
        patch.setattr(type(stage), "_arguments", lambda *_, **__: None)
        for key, value in environment_of(shape).items():
            patch.setenv(key, value)
        try:
            stage.prepare(name)
        except UserError:
            return True
    return False


@pytest.mark.parametrize("overrides", RECIPES.values(), ids=RECIPES)
def test_a_shape_is_named_where_the_run_takes_it(
    overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any(name.startswith("ACCELERATE_USE") for name in os.environ)
    recipe = Recipe.load("quickstart", overrides)
    trained = [name for name, kind in recipe.kinds.items() if kind in KINDS]
    assert len(trained) == 6
    for name in trained:
        can = [s for s in ("zero2", "fsdp2") if not refused(recipe, name, s, monkeypatch)]
        assert [launch.sharding for launch in launches_of(recipe, name)] == can, name


def test_a_shape_that_another_stage_refuses_is_for_one_stage_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A launch is of the whole recipe, and PPO refuses before the first stage."""
    recipe = Recipe.load("quickstart", PLAIN)
    assert refused(recipe, "ppo", "zero2", monkeypatch)
    assert launches_of(recipe, "pretrain") == (
        Launch("zero2", "pretrain"),
        Launch("fsdp2", "pretrain"),
    )
    assert launches_of(recipe, "ppo") == launches_of(recipe, "evaluate") == ()
    alone = Recipe.load("gpt2/124m")
    assert launches_of(alone, "pretrain") == (Launch("zero2"), Launch("fsdp2"))
    assert launches_of(Recipe.load("gpt2/124m", profile="muon"), "pretrain") == (Launch("fsdp2"),)


def test_what_a_plan_says_of_shapes(tmp_path: Path) -> None:
    """1.6B do not fit on a 4090 whole."""
    big = gpt2(48, 1600, 25, "    tokens_per_step: 1048576\n", ", max_steps: 10")
    found = planned(tmp_path, big + LADDER, "8x4090")
    assert found["pretrain"].fits is found["ppo"].fits is False
    assert not any("accelerate_configs" in note for note in found["ppo"].notes)
    shapes = [note for note in found["pretrain"].notes if "accelerate_configs" in note]
    assert len(shapes) == 1 and "fsdp2.yaml with --only pretrain" in shapes[0]
    step = "    tokens_per_step: 1114112\n"
    rows = ["pretrain.args.per_device_train_batch_size=17"]
    plain = gpt2(24, 1024, 16, step, ", max_steps: 10")
    told = planned(tmp_path, plain, "8x4090", overrides=rows).table()
    assert "DOES NOT FIT" in told and "accelerate_configs/zero2.yaml\n" in told
    rows.append("pretrain.optimizer=muon")
    told = planned(tmp_path, plain, "8x4090", overrides=rows).table()
    assert "DOES NOT FIT" in told and "accelerate_configs/fsdp2.yaml\n" in told
    assert "zero2" not in told


@pytest.mark.parametrize(
    ("launch", "hardware", "command"),
    [
        (Launch("none"), "H100", "llmkit run r --profile p"),
        (Launch("none"), "4xcpu", "llmkit run r --profile p"),
        (
            Launch("none"),
            "4xL4",
            "accelerate launch --config_file accelerate_configs/ddp.yaml --num_processes 4 "
            "-m llmkit run r --profile p",
        ),
        (
            Launch("fsdp2", "sft"),
            "8xL4",
            "accelerate launch --config_file accelerate_configs/fsdp2.yaml --num_processes 8 "
            "-m llmkit run r --profile p --only sft",
        ),
    ],
)
def test_what_to_type(launch: Launch, hardware: str, command: str) -> None:
    assert launch.command("r --profile p", hardware_of(hardware)) == command
    for word in command.split():
        assert not word.endswith(".yaml") or (SHAPES.parent / word).is_file()
