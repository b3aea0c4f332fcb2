"""The progress line and the curve."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import TrainerControl, TrainerState, TrainingArguments

from llmkit.report.charts import points
from llmkit.trainers.display import Meter, ShowProgress, cut_back


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


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    """Other programs' readers take no bare NaN; the report leaves such a point out."""
    show = ShowProgress("pretrain", tmp_path / "train.jsonl", Meter())
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    for step, norm in ((1, 0.5), (2, float("inf")), (3, float("nan")), (4, 0.25)):
        logs = {"loss": 2.0, "clip": norm, "note": "NaN"}
        show.on_log(args, TrainerState(global_step=step), TrainerControl(), logs=logs)

    def strict(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    text = (tmp_path / "train.jsonl").read_text()
    rows = [json.loads(line, parse_constant=strict) for line in text.splitlines()]
    assert [row["clip"] for row in rows] == [0.5, None, None, 0.25] and rows[1]["note"] == "NaN"
    assert points(rows, "clip") == [(1.0, 0.5), (4.0, 0.25)]


def test_the_curve_is_cut_back_to_a_step(tmp_path: Path) -> None:
    curve = tmp_path / "train.jsonl"
    cut_back(curve, 5)
    assert not curve.exists()
    rows = [{"step": 0, "first_loss": 3.0}, *({"step": n, "loss": 1.0 / n} for n in range(1, 8))]
    lines = [json.dumps(row) + "\n" for row in rows]
    curve.write_text("".join(lines) + '{"step": 8, "lo')  # killed while writing
    cut_back(curve, 5)
    assert curve.read_text() == "".join(lines[:6])
    cut_back(curve, -1)
    assert curve.read_text() == "" and [path.name for path in tmp_path.iterdir()] == [curve.name]


def test_other_ranks_are_silent(tmp_path: Path) -> None:
    show = ShowProgress("pretrain", tmp_path / "train.jsonl", Meter())
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    state = TrainerState(max_steps=20, is_world_process_zero=False)
    show.on_train_begin(args, state, TrainerControl())
    show.on_step_end(args, state, TrainerControl())
    show.on_log(args, state, TrainerControl(), logs={"loss": 2.5})
    show.on_train_end(args, state, TrainerControl())
    assert show.progress is None and not (tmp_path / "train.jsonl").exists()
