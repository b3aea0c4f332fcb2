"""llmkit's defaults under the user's own choices, and clear errors for what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import TrainingArguments
from trl import SFTConfig

from llmkit.errors import UserError
from llmkit.trainers.arguments import accumulation_steps, training_arguments
from llmkit.trainers.settings import MuonOptimizer, MuonSettings, muon_settings


@pytest.mark.parametrize("cls", [TrainingArguments, SFTConfig])
def test_what_the_user_wrote_stands(cls: type, tmp_path: Path) -> None:
    given = {"use_cpu": True, "bf16": True, "save_steps": 7, "logging_steps": 3}
    args = training_arguments(cls, given, tmp_path, 5)
    assert args.bf16 and args.save_steps == 7 and args.logging_steps == 3
    assert args.report_to == [] and args.disable_tqdm
    assert (args.seed, args.data_seed) == (5, 5)
    assert Path(args.output_dir) == tmp_path / "scratch" / "checkpoints"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cls", [TrainingArguments, SFTConfig])
def test_activations_are_kept_unless_asked_by_the_old_name(cls: type, tmp_path: Path) -> None:
    """TRL's own default is to compute them again. The old name is known to all versions."""
    assert not training_arguments(cls, {"use_cpu": True}, tmp_path, 0).gradient_checkpointing
    given = {
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": True},
    }
    args = training_arguments(cls, {"use_cpu": True, **given}, tmp_path, 0)
    assert args.gradient_checkpointing
    assert args.gradient_checkpointing_kwargs == {"use_reentrant": True}


def test_fp16_takes_the_place_of_the_default_bf16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmkit.device.has_fast_bf16", lambda device: True)
    chosen = training_arguments(TrainingArguments, {"use_cpu": True}, tmp_path, 0)
    assert chosen.bf16 and not chosen.fp16
    fp16 = training_arguments(TrainingArguments, {"use_cpu": True, "fp16": True}, tmp_path, 0)
    assert fp16.fp16 and not fp16.bf16


def test_a_refused_combination_names_the_recipe_path(tmp_path: Path) -> None:
    given = {"load_best_model_at_end": True, "eval_strategy": "epoch", "use_cpu": True}
    with pytest.raises(UserError, match="sft.args: SFTConfig refuses it: .*strategy to match"):
        training_arguments(SFTConfig, given, tmp_path, 0, "sft.args")


def test_a_schedule_that_is_refused_is_told_before_anything_trains(tmp_path: Path) -> None:
    given = {"lr_scheduler_type": "warmup_stable_decay", "use_cpu": True}
    given["lr_scheduler_kwargs"] = {"num_decay_steps": 3, "decay_type": "sine"}
    with pytest.raises(UserError, match=r"^pretrain\.args: the learning-rate schedule .* sine"):
        training_arguments(TrainingArguments, given, tmp_path, 0, "pretrain.args")


def test_ranks_that_did_not_come_together_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = training_arguments(TrainingArguments, {"use_cpu": True}, tmp_path, 0)
    assert args.world_size == 1
    from llmkit.trainers.arguments import check_ranks

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="promised 2 ranks, and there are 1"):
        check_ranks(args, "pretrain.args")


def test_accumulation_by_hand() -> None:
    assert accumulation_steps(8192, 16, 128, 1, "here") == 4
    assert accumulation_steps(8192, 16, 128, 2, "here") == 2
    with pytest.raises(UserError, match="here: 5,000 tokens .* try 4,096"):
        accumulation_steps(5000, 16, 128, 1, "here")
    with pytest.raises(UserError, match="try 2,048"):
        accumulation_steps(100, 16, 128, 1, "here")


def test_muon_is_a_word_or_a_mapping() -> None:
    assert muon_settings("adamw") is None
    assert muon_settings("muon") == MuonSettings(learning_rate=0.02, momentum=0.95)
    own = MuonSettings(learning_rate=0.01)
    assert muon_settings(MuonOptimizer(muon=own)) == own


@pytest.mark.parametrize(
    "wrong",
    [{"learning_rate": -0.1}, {"weight_decay": -1.0}, {"momentum": 1.0}, {"iterations": 0}],
)
def test_muons_figures_have_their_range(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: "):
        MuonSettings(**wrong)
