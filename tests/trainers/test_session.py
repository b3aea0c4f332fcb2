"""What a session settles before it goes on, and what it leaves as it was."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)
from transformers.utils import logging as logging_of_transformers

from llmkit.errors import Stopped
from llmkit.model import without_bars
from llmkit.stage import Context
from llmkit.trainers.arguments import training_arguments
from llmkit.trainers.checkpoints import fault, newest_whole_checkpoint
from llmkit.trainers.guard import Guarded
from llmkit.trainers.pace import SPENT
from llmkit.trainers.session import name_one_stop, settle_ratios, train


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


@pytest.mark.parametrize("stops, written", [([15], 15), ([15, 2], [15, 2]), (15, 15), (None, None)])
def test_one_stop_token_is_a_number(stops: Any, written: Any) -> None:
    config = GenerationConfig(eos_token_id=stops)
    name_one_stop(config)
    assert config.eos_token_id == written


class GuardedTrainer(Guarded, Trainer):
    pass


class StopAt(TrainerCallback):
    """Sends this process a SIGTERM once a step is taken."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def tiny_trainer(folder: Path, *stops: int) -> GuardedTrainer:
    """Ten steps over rows of 3, 4, 5, ... tokens, one a step and in that order."""
    context = Context(name="tiny", out=folder)
    args = training_arguments(
        TrainingArguments,
        {
            "max_steps": 10,
            "per_device_train_batch_size": 1,
            "train_sampling_strategy": "sequential",
            "save_steps": 4,
            "use_cpu": True,
        },
        folder,
        0,
    )
    rows = [torch.arange(3 + n) for n in range(10)]
    data = [{"input_ids": row, "labels": row} for row in rows]
    ids = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 2}
    model = GPT2LMHeadModel(
        GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=16, n_positions=16, **ids)
    )
    callbacks = [StopAt(step) for step in stops]
    return GuardedTrainer(
        model=model, args=args, context=context, train_dataset=data, callbacks=callbacks
    )


def test_tokens_are_those_of_the_whole_training_across_resumes(tmp_path: Path) -> None:
    for stop in (3, 6):  # the second process begins anew at step 3 or 4, the third at 6 or 7
        with pytest.raises(Stopped):
            train(tiny_trainer(tmp_path, stop))
    trainer = tiny_trainer(tmp_path)
    figures = train(trainer)
    assert figures["steps"] == 10
    assert figures["tokens"] == sum(range(3, 13))  # 3 + 4 + ... + 12
    assert 0 < trainer.meter.tokens <= 10 + 11 + 12 + 9  # this process's share
    assert figures["tokens_per_second"] <= trainer.meter.tokens / figures["train_seconds"] * 1.5
    checkpoints = tmp_path / "scratch" / "checkpoints"
    newest = newest_whole_checkpoint(checkpoints)
    assert newest == checkpoints / "checkpoint-10"
    again = train(tiny_trainer(tmp_path))
    assert again == {"steps": 10, "tokens": 75}, "nothing left to train, the count is kept"
    (newest / SPENT).write_text("1")
    assert fault(newest) == f"{SPENT} has changed since it was written"
