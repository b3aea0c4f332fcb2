"""A recipe's own profiles are ways to make it fit, each by the command that one can type."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from plans import gpt2, planned

from llmkit.plan import Plan, plan
from llmkit.recipe import Recipe

BIG = gpt2(48, 1600, 25, "    tokens_per_step: 1048576\n", ", max_steps: 10")
ROWS = "pretrain.args.per_device_train_batch_size"
SPARING = f"{ROWS}: 1, pretrain.args.gradient_checkpointing: true, pretrain.args.optim: adafactor"


def commands(found: Plan) -> list[str]:
    """The ways that are commands."""
    notes = found["pretrain"].notes
    return [note.removeprefix("would fit: ") for note in notes if "llmkit run " in note]


def asked(command: str, hardware: str) -> Plan:
    """The plan of what a command would run."""
    words = shlex.split(command.partition("llmkit run ")[2])
    at = words.index("--profile")
    return plan(words[0], hardware, overrides=words[1:at], profile=words[at + 1])


def test_the_largest_gpt2_fits_on_a_4090_by_its_own_profile() -> None:
    found = plan("gpt2/1558m", "1x4090")
    assert found["pretrain"].fits is False
    assert commands(found) == ["llmkit run gpt2/1558m --profile 24gb"], "and not smoke"
    stage = asked(commands(found)[0], "1x4090")["pretrain"]
    assert stage.fits and stage.tokens == found["pretrain"].tokens
    assert "would fit: 1xA100" in found["pretrain"].notes, "beside what is tried anyway"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (SPARING, True),
        (f"{SPARING}, pretrain.args.max_steps: 2", False),  # another training
        (f"{SPARING}, pretrain.config.n_layer: 12", False),  # another model
        (f"{SPARING}, tokenize.context_length: 512", False),  # other rows
        (f"{ROWS}: 8", False),  # does not fit
        # As many tokens in more and smaller steps:
        (f"{SPARING}, pretrain.tokens_per_step: 524288, pretrain.args.max_steps: 20", True),
    ],
)
def test_only_a_profile_of_the_same_training_is_named(
    changes: str, named: bool, tmp_path: Path
) -> None:
    profiles = f"profiles:\n  other: {{{changes}}}\n"
    found = planned(tmp_path, BIG + profiles, "4090")
    command = f"llmkit run {tmp_path / 'r.yaml'} --profile other"
    assert commands(found) == ([command] if named else [])
    if named:
        assert asked(command, "4090")["pretrain"].fits


@pytest.mark.parametrize(("cut", "named"), [("", True), (", sft.args.max_length: 512", False)])
def test_rows_that_are_cut_shorter_are_another_training(
    cut: str, named: bool, tmp_path: Path
) -> None:
    sft = (
        "  sft:\n    model: openai-community/gpt2-xl\n"
        "    dataset: [{tinyworld: conversations}]\n    args: {max_steps: 10, bf16: true}\n"
    )
    other = SPARING.replace("pretrain.", "sft.") + cut
    found = planned(tmp_path, f"{sft}profiles:\n  other: {{{other}}}\n", "4090")
    assert found["sft"].fits is False
    assert any("--profile other" in note for note in found["sft"].notes) is named


def test_a_profile_that_would_stop_is_none(tmp_path: Path) -> None:
    """16,384 tokens are a pass of 8 ranks with 2 rows of 1,024; 3 ranks cannot share them out."""
    recipe = BIG.replace("1048576", "16384") + f"profiles:\n  other: {{{SPARING}}}\n"
    recipe = recipe.replace(f"{ROWS}: 1", f"{ROWS}: 2")
    assert len(commands(planned(tmp_path, recipe, "8x4090"))) == 1
    assert commands(planned(tmp_path, recipe, "3x4090")) == []


def test_what_was_asked_for_stays_in_the_command(tmp_path: Path) -> None:
    """An override counts before a profile: with 16 rows kept, `other` does not fit either."""
    recipe = BIG + f"profiles:\n  other: {{{SPARING}}}\n"
    overrides = ["pretrain.args.max_steps=20", "pretrain.samples={prompts: [a b], every: 5}"]
    (command,) = commands(planned(tmp_path, recipe, "4090", overrides=overrides))
    assert shlex.split(command)[3:5] == overrides
    assert asked(command, "4090")["pretrain"].steps == 20
    assert commands(planned(tmp_path, recipe, "4090", overrides=[f"{ROWS}=16"])) == []


def test_a_profile_with_problems_is_no_way_out(tmp_path: Path) -> None:
    """`other` sets what the override makes impossible; the plan that was asked for still comes."""
    recipe = BIG + f"profiles:\n  other: {{{SPARING}}}\n"
    found = planned(tmp_path, recipe, "4090", overrides=["pretrain.optimizer=muon"])
    assert found["pretrain"].fits is False and commands(found) == []


def test_several_ranks_are_launched(tmp_path: Path) -> None:
    """AdamW's moments fit on no 4090: the ranks have to share them."""
    recipe = BIG + f"profiles:\n  other: {{{SPARING.rpartition(',')[0]}}}\n"
    (command,) = commands(planned(tmp_path, recipe, "8x4090"))
    shape = "accelerate launch --config_file accelerate_configs/zero2.yaml --num_processes 8 -m "
    assert command == f"{shape}llmkit run {tmp_path / 'r.yaml'} --profile other"
    assert commands(planned(tmp_path, recipe, "4090")) == []


def test_a_loaded_recipe_has_no_command() -> None:
    assert commands(plan(Recipe.load("gpt2/1558m"), "4090")) == []
