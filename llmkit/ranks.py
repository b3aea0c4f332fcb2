"""The processes of one run: what a launcher started, joined so that each knows of the others.

    ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 -m llmkit run quickstart
    accelerate launch --config_file accelerate_configs/ddp.yaml -m llmkit run gpt2/124m

The first process (rank 0) leads: it alone checks, skips, prints, and runs the stages that are not
trainings, hours of them; for a training it calls the others in. They wait on a group of their own,
on the host (gloo), whose patience has no end; a collective of NCCL's would give up after minutes.
Where the first process has gone, the others learn it from the closed connection.
"""

from __future__ import annotations

import atexit
import functools
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

from llmkit.errors import LlmkitError, UserError

T = TypeVar("T")

# The variables by which accelerate counts and numbers ranks (accelerate/state.py).
COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
NUMBERS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
SHARDING = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DEEPSPEED"}
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
PATIENCE = timedelta(days=365)
GRACE = 8.0  # seconds in which what befalls all has befallen each, and the first one says it


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, as one of them sees it. All of them call each method together.

    Attributes:
        rank: the number of this process.
        count: how many there are.
        group: gloo's, of all of them; None where there is one.
    """

    rank: int = 0
    count: int = 1
    group: Any = None

    @property
    def first(self) -> bool:
        return self.rank == 0

    def told(self, value: T) -> T:
        """What the first process gives; the others' `value` is not looked at.

        The others wait for as long as it takes. A stop is the first one's to decide, so signals
        pass them by.

        Raises:
            LlmkitError: the first process has gone, or another one that it tells.
        """
        if self.count == 1:
            return value
        import torch.distributed

        box = [value]
        try:
            with nullcontext() if self.first else _deaf():
                torch.distributed.broadcast_object_list(box, src=0, group=self.group)
        except RuntimeError as error:  # gloo's: the connection was closed
            who = "another" if self.first else "the first"
            raise LlmkitError(f"{who} process of the launch has gone") from error
        return box[0]

    def by_the_first(self, work: Callable[[], T]) -> T:
        """What `work` gives in the first process, which alone does it."""
        return cast(T, self.told(work() if self.first else None))

    def gathered(self, value: T) -> list[T]:
        """What each process has, by rank."""
        if self.count == 1:
            return [value]
        import torch.distributed

        parts: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(parts, value, group=self.group)
        return parts

    def meet(self) -> None:
        """Go on when all are here."""
        if self.count > 1:
            import torch.distributed

            torch.distributed.barrier(group=self.group)

    @contextmanager
    def in_step(self) -> Iterator[None]:
        """What all of them run. After an error, whether all had one, so that they still agree."""
        global _standing, _together
        _together += 1
        try:
            yield
        except BaseException:
            if self.count > 1:
                _standing = SHARED if self._roll_call(f"llmkit/{_together}") else PARTED
            raise

    def _roll_call(self, key: str) -> bool:
        """Whether all come here within GRACE; the others wait in what one of them has left.

        By the store in which the processes found each other: it answers one that is alone.
        """
        from torch.distributed.distributed_c10d import _get_default_store

        store, parted = _get_default_store(), f"{key}/parted"
        with _deaf():
            try:
                store.set(f"{key}/{self.rank}", "here")
                everyone = [f"{key}/{rank}" for rank in range(self.count)]
                store.wait(everyone, timedelta(seconds=GRACE))
                return not store.check([parted])
            except RuntimeError:  # too late, or the store has gone with the first process
                with suppress(RuntimeError):
                    store.set(parted, "yes")
                return False

    def highest(self, number: int) -> int:
        """The highest number that any process has; no GPU is waited for."""
        if self.count == 1:
            return number
        import torch
        import torch.distributed

        box = torch.tensor(number)
        torch.distributed.all_reduce(box, torch.distributed.ReduceOp.MAX, group=self.group)
        return int(box)


ALONE = Ranks()
SHARED, PARTED = "shared", "parted"  # an error that all have; one that some have, and others wait
_joined = ALONE
_standing = ""  # after an error inside what all of them run: SHARED or PARTED
_together = 0  # how many times they have run something so


def current() -> Ranks:
    """The processes of the run at work; one, where none is."""
    return _joined


def promised(environment: Mapping[str, str]) -> int:
    """How many processes the launcher says it started."""
    return max(int(environment.get(name) or 1) for name in COUNTS)


def spread_by(environment: Mapping[str, str]) -> str:
    """`FSDP` or `DEEPSPEED`, as the launcher says; nothing where each process has all."""
    asked = (kind for name, kind in SHARDING.items() if environment.get(name, "").lower() == "true")
    return next(asked, "")


@contextmanager
def joined(environment: Mapping[str, str]) -> Iterator[Ranks]:
    """Join the processes that the launcher started; those that it did not are not missed.

    Raises:
        UserError: they would be several runs that do not know of one another, or an error has
            parted them inside an earlier training.
    """
    global _joined, _standing
    count = promised(environment)
    if count <= 1:
        yield ALONE
        return
    _check(count, environment)
    if _standing == PARTED:
        what = "an error parted these processes inside a training, and some still wait in it"
        raise UserError("llmkit.run", what, "launch them again")
    _standing = ""
    _joined = _formed(count, environment)
    try:
        yield _joined
        _joined.meet()
    finally:
        _joined = ALONE


def _check(count: int, environment: Mapping[str, str]) -> None:
    """Ranks that form no group are several whole trainings into one folder."""
    where, cpu, spread = "accelerate launch", _says_cpu(environment), spread_by(environment)
    if cpu and spread:
        what = f"{spread} on CPUs would be plain copies of the model (accelerate makes it so)"
        raise UserError(where, what, "leave it out: torchrun --nproc_per_node N -m llmkit run")
    if not cpu and not _has_gpu():
        raise UserError(
            where,
            f"{count} processes that would not know of each other: there is no GPU here",
            "for processes on CPUs set ACCELERATE_USE_CPU=true, or launch one "
            "(accelerate_configs/cpu.yaml)",
        )


def _formed(count: int, environment: Mapping[str, str]) -> Ranks:
    """The group outlives a run: another run of the same processes could not form it again."""
    from accelerate import PartialState

    if _says_cpu(environment):  # else "cpu:0", by which torch 2.11 cannot load a checkpoint
        os.environ.setdefault("ACCELERATE_TORCH_DEVICE", "cpu")
    PartialState._reset_state()  # one that stood alone before knows of nobody
    state = PartialState(cpu=_says_cpu(environment))
    if state.num_processes != count:
        what = f"{count} processes were promised, and {state.num_processes} came together"
        raise UserError("accelerate launch", what, "see accelerate_configs/")
    return Ranks(state.process_index, count, _patient_group())


@functools.cache
def _patient_group() -> Any:
    import torch.distributed

    atexit.register(_part)
    return torch.distributed.new_group(backend="gloo", timeout=PATIENCE)


def _part() -> None:
    """End gloo's groups before Python goes: their threads would abort a process that ended well.

    NCCL's is left alone, since after an error it may wait for those that are stuck.
    """
    import torch.distributed

    with _deaf():
        gc.collect()  # a trainer's model holds its group
        if torch.distributed.is_initialized():
            whole = torch.distributed.get_backend() == "gloo"
            torch.distributed.destroy_process_group(None if whole else _patient_group())


def _says_cpu(environment: Mapping[str, str]) -> bool:
    return environment.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1", "yes")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@contextmanager
def _deaf() -> Iterator[None]:
    """Signals pass by; what stood there comes back afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def share() -> None:
    """The error that is raised now is the first process's, which says it."""
    global _standing
    _standing = SHARED


def speaker(environment: Mapping[str, str]) -> str | None:
    """What an error begins with: `rank 3: ` of another process than the first; None: say nothing.

    What befell all is told once. Where nobody knows whether it did (before the processes are
    joined, or when the first one has gone), the launcher ends the others when that one has ended.
    """
    rank = max(int(environment.get(name) or 0) for name in NUMBERS)
    if promised(environment) <= 1 or rank == 0:
        return ""
    if _standing == SHARED:
        return None
    if _standing != PARTED:
        time.sleep(GRACE)
    return f"rank {rank}: "
