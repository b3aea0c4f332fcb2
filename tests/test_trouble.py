"""Signals, and a machine that refuses."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from fake_stages import RUNS, climb

from llmkit.errors import Stopped, UserError


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("full", r"\.words\.partial: the disk is full; make room"),
        ("denied", r"words: .*Permission denied: '/mnt/data'; put it right"),
    ],
)
def test_what_the_machine_refuses_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, message: str
) -> None:
    monkeypatch.setenv("INTERRUPT", f"words:1:{how}")
    with pytest.raises(UserError, match=message):
        climb(tmp_path)


@pytest.mark.parametrize(("how", "number"), [("sigterm", 15), ("ctrl_c", 2), ("in_a_library", 15)])
def test_signal_stops_with_the_work_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, number: int
) -> None:
    handlers = [signal.getsignal(number), signal.getsignal(signal.SIGUSR1)]
    monkeypatch.setenv("INTERRUPT", f"words:1:{how}")
    with pytest.raises(Stopped, match="run the same command again to go on") as caught:
        climb(tmp_path)
    assert caught.value.exit_status == 128 + number
    assert [signal.getsignal(number), signal.getsignal(signal.SIGUSR1)] == handlers
    monkeypatch.delenv("INTERRUPT")
    climb(tmp_path)
    tries = (tmp_path / "tiny/words/logs/tries.txt").read_text().split()
    assert tries == ["0", "1", "2"]


def test_signal_that_a_library_swallows_stops_after_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERRUPT", "words:1:swallowed")
    with pytest.raises(Stopped) as caught:
        climb(tmp_path)
    assert caught.value.exit_status == 128 + signal.SIGTERM
    assert (tmp_path / "tiny/words/words.txt").exists() and RUNS == ["words"]
    assert climb(tmp_path) == ["shout"]
