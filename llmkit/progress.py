"""Progress with rate and time left: a tqdm bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
QUIET_SECONDS = 2.0  # what is done sooner than this says nothing
LINE_SECONDS = 10.0  # between two lines where the output is not a terminal

_hidden = False


@contextmanager
def hidden() -> Iterator[None]:
    """Of several processes that do the same work, one shows how far it is."""
    global _hidden
    before, _hidden = _hidden, True
    try:
        yield
    finally:
        _hidden = before


class Progress:
    """Counts `update`s towards `total` (unknown when None), in `unit`s, under a `label`."""

    def __init__(self, label: str, total: int | None = None, unit: str = "it") -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done, self.note = 0, ""
        self.started = time.monotonic()
        self._next_line = self.started + QUIET_SECONDS
        self._skipped = 0  # done before this process began, so not part of the rate
        self._hidden = _hidden
        shows = sys.stderr.isatty() and not _hidden
        self._bar = bar(label, total, unit) if shows else None

    def start_at(self, done: int) -> None:
        """Say that `done` units were there already (a resumed run)."""
        self.done = self._skipped = done
        if self._bar is not None:
            self._bar.initial = self._bar.n = done

    def update(self, count: int = 1, note: str = "") -> None:
        """`count` more units are done; `note` (a loss, say) stands behind the figures."""
        self.done += count
        self.note = note or self.note
        if self._bar is not None:
            self._bar.set_postfix_str(self.note, refresh=False)
            self._bar.update(count)
        elif not self._hidden and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            print(self.line(), file=sys.stderr, flush=True)

    def line(self) -> str:
        """`pretrain: 120/200 steps (60 %), 5.1 steps/s, 0:16 left, loss 2.31`."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate = (self.done - self._skipped) / seconds
        parts = [f"{self.done:,} {self.unit}"]
        if self.total:
            percent = 100 * self.done / self.total
            parts = [f"{self.done:,}/{self.total:,} {self.unit} ({percent:.0f} %)"]
        parts.append(f"{rate:,.1f} {self.unit}/s")
        if self.total and rate > 0:
            parts.append(f"{clock(round((self.total - self.done) / rate))} left")
        if self.note:
            parts.append(self.note)
        return f"{self.label}: " + ", ".join(parts)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def clock(seconds: int) -> str:
    """`0:16`, `12:05`, `3:07:30`."""
    minutes, rest = divmod(seconds, 60)
    hours, within = divmod(minutes, 60)
    return f"{hours}:{within:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def bar(label: str, total: int | None, unit: str) -> Any:
    """A bar of tqdm, which checking a recipe has no need to import."""
    from tqdm import tqdm

    return tqdm(total=total, desc=label, unit=unit, delay=QUIET_SECONDS, leave=False)


def track(
    items: Iterable[T], label: str, total: int | None = None, unit: str = "it"
) -> Iterator[T]:
    """Yield the items while their count is shown."""
    with Progress(label, total, unit) as progress:
        for item in items:
            yield item
            progress.update()
