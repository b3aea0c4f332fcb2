"""What a session settles before it goes on, and what it leaves as it was."""

from __future__ import annotations

from pathlib import Path

from transformers import TrainerState, TrainingArguments
from transformers.utils import logging as logging_of_transformers

from llmkit.model import without_bars
from llmkit.trainers.session import settle_ratios


def test_ratios_become_the_steps_of_the_checkpoint(tmp_path: Path) -> None:
    given = {"save_steps": 0.1, "logging_steps": 5, "eval_steps": 0.5, "use_cpu": True}
    args = TrainingArguments(output_dir=str(tmp_path), eval_strategy="steps", **given)
    state = TrainerState(max_steps=37)
    state.compute_steps(args, 37)
    state.save_to_json(str(tmp_path / "trainer_state.json"))
    settle_ratios(args, tmp_path)
    assert (args.save_steps, args.logging_steps, args.eval_steps) == (4, 5, 19)


def test_bars_come_back() -> None:
    assert logging_of_transformers.is_progress_bar_enabled()
    with without_bars():
        assert not logging_of_transformers.is_progress_bar_enabled()
    assert logging_of_transformers.is_progress_bar_enabled()
