"""What a training shows while it runs, and the curve that it leaves behind.

Takes the place of Hugging Face's printer and tqdm callbacks: one line of progress with steps and
tokens a second, time left and the loss; every logged figure goes to `train.jsonl`.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llmkit.progress import Progress

TOKENS = "tokens.json"  # in each checkpoint: tokens of the whole training up to it


@dataclass
class Meter:
    """What the trainer counts and the display reads.

    Attributes:
        tokens: seen in this process.
        before: seen by earlier processes of the same training, up to the checkpoint.
        loss: of the last step.
    """

    tokens: int = 0
    loss: float | None = None
    before: int = 0


class ShowProgress(TrainerCallback):
    """Progress line or bar, `logs/train.jsonl`, and the count of tokens in each checkpoint.

    It stands before the callback that seals checkpoints, so that the count is sealed with the rest.

    Args:
        label: what is trained, the stage's name.
        curve: the file that gets one JSON object for each log of the trainer.
        meter: counted by the trainer.
    """

    def __init__(self, label: str, curve: Path, meter: Meter) -> None:
        self.label, self.curve, self.meter = label, curve, meter
        self.progress: Progress | None = None
        self.started = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        self.started = time.monotonic()
        self.progress = Progress(self.label, state.max_steps, "steps")
        self.progress.start_at(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.progress is not None:
            loss = "" if self.meter.loss is None else f", loss {self.meter.loss:.3f}"
            self.progress.update(1, f"{self.tokens_per_second():,.0f} tokens/s{loss}")

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            checkpoint = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            tokens = self.meter.before + self.meter.tokens
            (checkpoint / TOKENS).write_text(json.dumps(tokens), encoding="utf-8")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero and logs:
            row = {"step": state.global_step, **logs}
            with self.curve.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.close()

    def tokens_per_second(self) -> float:
        """Mean over this process so far, of this rank; evaluation and saving included."""
        return self.meter.tokens / max(time.monotonic() - self.started, 1e-9)

    def close(self) -> None:
        """Take the bar away; also after an error, which skips `on_train_end`."""
        if self.progress is not None:
            self.progress.close()
            self.progress = None
