"""Signals set a flag that is looked at between steps; handlers are a loan."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from llmkit.ranks import STOPS
from llmkit.trainers.stopping import StopOnSignal


def step_ends(stop: StopOnSignal, folder: Path) -> TrainerControl:
    args = TrainingArguments(output_dir=str(folder), use_cpu=True)
    return stop.on_step_end(args, TrainerState(), TrainerControl())


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_asks_for_save_and_stop_at_the_end_of_the_step(
    number: signal.Signals, tmp_path: Path
) -> None:
    before = [signal.getsignal(each) for each in STOPS]
    stop = StopOnSignal()
    with stop.listening():
        quiet = step_ends(stop, tmp_path)
        assert not quiet.should_save and not quiet.should_training_stop
        os.kill(os.getpid(), number)
        asked = step_ends(stop, tmp_path)
    assert asked.should_save and asked.should_training_stop
    assert stop.signal_number == number
    assert [signal.getsignal(each) for each in STOPS] == before


def test_a_second_interrupt_does_not_wait_and_handlers_come_back(tmp_path: Path) -> None:
    before = [signal.getsignal(each) for each in STOPS]
    stop = StopOnSignal()
    with pytest.raises(KeyboardInterrupt), stop.listening():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(each) for each in STOPS] == before


def test_outside_the_main_thread_nothing_is_installed() -> None:
    before = [signal.getsignal(each) for each in STOPS]
    seen = []

    def work() -> None:
        with StopOnSignal().listening():
            seen.append([signal.getsignal(each) for each in STOPS])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_signal_after_the_last_step_goes_where_it_went_before() -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    try:
        stop = StopOnSignal()
        with stop.listening():
            os.kill(os.getpid(), signal.SIGTERM)
            assert got == []
        assert got == [signal.SIGTERM] and stop.signal_number is None
    finally:
        signal.signal(signal.SIGTERM, before)
