"""What can befall a run from outside: signals, a full disk, a lost mount."""

from __future__ import annotations

import errno
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from llmkit.errors import LlmkitError, Stopped, UserError
from llmkit.ranks import STOPS
from llmkit.run_dir import StageFolder

GONE = ("Connection closed by peer", "Connection reset by peer")  # gloo's words of a process


@contextmanager
def signals_stop(stage: str) -> Iterator[None]:
    """While it is open SIGINT, SIGTERM and SIGUSR1 end in `Stopped`; put back afterwards.

    What they raise in the midst of the work is a `KeyboardInterrupt`, since a library that tries
    one way after the other catches every `Exception`. Where one was swallowed all the same, the
    stage is the last one that runs. A trainer that knows a better moment to stop puts its own
    handlers on top of these.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread alone
        return
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in STOPS}
    try:
        yield
    except KeyboardInterrupt:
        asked.append(signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise Stopped(asked[0], stage)


@contextmanager
def told_clearly(stage: StageFolder) -> Iterator[None]:
    """Turn what the machine refuses (disk, rights, a lost mount) into one clear message."""
    try:
        yield
    except (LlmkitError, BrokenPipeError):  # a pipe is closed by its reader: `| head`
        raise
    except Exception as error:
        if _disk_full(error):
            raise UserError(
                str(stage.partial),
                "the disk is full",
                "make room and run the same command again; it goes on where it stopped",
            ) from error
        if any(words in str(error) for words in GONE):
            what = "another process of the launch has gone"
            remedy = "what it said tells why; the same command goes on from the last checkpoint"
            raise UserError(stage.name, what, remedy) from error
        if isinstance(error, OSError):
            what = str(error).strip() or type(error).__name__
            remedy = "put it right and run the same command again"
            raise UserError(stage.name, what, remedy) from error
        raise


def _disk_full(error: BaseException | None) -> bool:
    """Libraries wrap the system's error each in its own (safetensors, Arrow), so look inside."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
