"""What a training shows while it runs, and the curve that it leaves behind.

Takes the place of Hugging Face's printer and tqdm callbacks: one line of progress with steps and
tokens a second, time left, MFU, dollars and the loss; every logged figure goes to `train.jsonl`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llmkit.progress import Progress
from llmkit.trainers.pace import Meter, Pace


class ShowProgress(TrainerCallback):
    """Progress line or bar, `logs/train.jsonl`, and in each checkpoint what it took so far.

    It stands before the callback that seals checkpoints, so that this is sealed with the rest.

    Args:
        label: what is trained, the stage's name.
        curve: the file that gets one JSON object for each log of the trainer.
        meter: counted by the trainer.
        pace: what the counts come to; that of one rank without a price where it is not given.
    """

    def __init__(self, label: str, curve: Path, meter: Meter, pace: Pace | None = None) -> None:
        self.label, self.curve, self.meter = label, curve, meter
        self.pace = Pace(meter) if pace is None else pace
        self.progress: Progress | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.pace.start()
        if not state.is_world_process_zero:
            return
        self.progress = Progress(self.label, state.max_steps, "steps")
        self.progress.start_at(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.progress is not None:
            loss = "" if self.meter.loss is None else f", loss {self.meter.loss:.3f}"
            self.progress.update(1, self.pace.in_words() + loss)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            checkpoint = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            self.pace.spent().save(checkpoint)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero and logs:
            # The trainer's own log of a training step, not an evaluation's.
            paced = self.pace.since_the_last() if "grad_norm" in logs else {}
            row = {"step": state.global_step, **logs, **paced}
            with self.curve.open("a", encoding="utf-8") as file:
                file.write(as_json(row) + "\n")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away; also after an error, which skips `on_train_end`."""
        if self.progress is not None:
            self.progress.close()
            self.progress = None


def as_json(row: Mapping[str, Any]) -> str:
    """A row of the curve; a figure that is not finite is null, since JSON has no word for it."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
    return json.dumps(finite, allow_nan=False)


def cut_back(curve: Path, step: int) -> None:
    """Take away the rows after `step`, and one that a kill cut short.

    A training that goes on from a checkpoint writes those rows again.
    """
    if not curve.is_file():
        return
    kept = []
    for line in curve.read_text(encoding="utf-8").split("\n"):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row["step"] <= step:
            kept.append(line + "\n")
    partial = curve.with_name(curve.name + ".partial")
    partial.write_text("".join(kept), encoding="utf-8")
    os.replace(partial, curve)
