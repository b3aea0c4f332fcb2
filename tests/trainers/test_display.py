"""The progress line and the curve."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import TrainerControl, TrainerState, TrainingArguments

from llmkit.trainers.display import Meter, ShowProgress


def test_shows_steps_tokens_and_loss_and_keeps_the_curve(tmp_path: Path) -> None:
    meter = Meter(tokens=0, loss=None)
    show = ShowProgress("pretrain", tmp_path / "train.jsonl", meter)
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    state = TrainerState(global_step=10, max_steps=20)
    show.on_train_begin(args, state, TrainerControl())
    assert show.progress is not None and show.progress.done == 10
    show.pace.started -= 10.0  # ten seconds ago
    meter.tokens, meter.loss = 5000, 2.3456
    show.on_step_end(args, state, TrainerControl())
    line = show.progress.line()
    assert line.startswith("pretrain: 11/20 steps (55 %)") and "loss 2.346" in line
    assert "500 tokens/s" in line or "499 tokens/s" in line
    show.on_log(args, state, TrainerControl(), logs={"loss": 2.5})
    show.on_log(args, state, TrainerControl(), logs={"eval_loss": 2.25})
    show.on_train_end(args, state, TrainerControl())
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert rows == [{"step": 10, "loss": 2.5}, {"step": 10, "eval_loss": 2.25}]
    assert show.progress is None


def test_other_ranks_are_silent(tmp_path: Path) -> None:
    show = ShowProgress("pretrain", tmp_path / "train.jsonl", Meter())
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    state = TrainerState(max_steps=20, is_world_process_zero=False)
    show.on_train_begin(args, state, TrainerControl())
    show.on_step_end(args, state, TrainerControl())
    show.on_log(args, state, TrainerControl(), logs={"loss": 2.5})
    show.on_train_end(args, state, TrainerControl())
    assert show.progress is None and not (tmp_path / "train.jsonl").exists()
