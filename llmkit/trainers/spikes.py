"""Leave out the update of a step whose loss or gradient stands far above those before it.

    skip where  x - mean > sigma * std     for the loss or the gradient norm,

mean and std over the last `window` steps, skipped ones among them: should the loss stay up there,
it soon is no spike any more. Nothing is judged before half a window is known. The rule is OLMo's,
https://github.com/allenai/OLMo-core/blob/main/src/olmo_core/optim/skip_step_optimizer.py
"""

from __future__ import annotations

import json
import statistics
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llmkit.trainers.pretrain_settings import SkipSpikes

STATE = "spikes.json"  # in each checkpoint


@dataclass
class SpikeWatch:
    """What the last steps were like; `skipped` counts those that were left out."""

    settings: SkipSpikes
    skipped: int = 0

    def __post_init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=self.settings.window)
        self.norms: deque[float] = deque(maxlen=self.settings.window)

    def spike(self, loss: float, norm: float) -> bool:
        """Whether this step is one; it is remembered either way."""
        found = self._far(loss, self.losses) or self._far(norm, self.norms)
        self.losses.append(loss)
        self.norms.append(norm)
        self.skipped += found
        return found

    def _far(self, value: float, before: deque[float]) -> bool:
        if 2 * len(before) < self.settings.window:
            return False
        return value - statistics.fmean(before) > self.settings.sigma * statistics.stdev(before)

    def save(self, checkpoint: Path) -> None:
        state = {"losses": [*self.losses], "norms": [*self.norms], "skipped": self.skipped}
        (checkpoint / STATE).write_text(json.dumps(state), encoding="utf-8")

    def load(self, checkpoint: Path) -> None:
        """Go on as the training did that wrote the checkpoint: a float survives JSON exactly."""
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        self.losses.extend(state["losses"])
        self.norms.extend(state["norms"])
        self.skipped = state["skipped"]


class KeepSpikes(TrainerCallback):
    """Puts the watch's state into each checkpoint, before it is sealed."""

    def __init__(self, watch: SpikeWatch) -> None:
        self.watch = watch

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self.watch.save(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")
