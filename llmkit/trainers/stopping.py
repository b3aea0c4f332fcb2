"""Stop on SIGTERM, SIGINT or SIGUSR1 at the end of a step, with a checkpoint.

The flag is looked at in `on_step_end`, after the update and before the next batch, where a
checkpoint resumes bit for bit. (Hugging Face's own `enable_jit_checkpoint` saves inside a step,
after its randomness is spent, and does not.)
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llmkit.ranks import STOPS, current

log = logging.getLogger("llmkit")


class StopOnSignal(TrainerCallback):
    """Asks the trainer to save and to stop once a signal came. `signal_number` says which."""

    def __init__(self) -> None:
        self.signal_number: int | None = None  # what all ranks stop for
        self._received: int | None = None  # what this one got

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Install the handlers, and put back what stood there, for a signal too late as well.

        Python allows that in the main thread only; elsewhere signals go where they went before.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in STOPS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self._received is not None and self.signal_number is None:
            signal.raise_signal(self._received)  # it came when no step was left to stop after

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: now, and the last checkpoint must do
        self._received = number
        log.warning("%s: stopping after this step", signal.Signals(number).name)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        # One that stopped alone would leave the others waiting.
        self.signal_number = current().highest(self._received or 0) or None
        if self.signal_number is not None:
            control.should_save = control.should_training_stop = True
        return control
