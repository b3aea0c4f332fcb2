"""Worker processes on one machine: jobs out, results back, and no process left behind.

Under Linux the workers are forked from a foreman: a fresh process of one thread that has first
loaded what the task needs, so that lists and models lie in memory once, however many workers read
them. (Forking a process of several threads may hang for ever, and this one may have imported torch:
https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods.) Elsewhere each
worker is such a fresh process and loads for itself.

Results come back as they are ready, in any order: a job has to say what it is. Foreman and workers
are a process group of their own. They do not see Ctrl-C; the foreman ends the whole group, and what
the workers have started, as soon as the other end of its connection is gone, even by `kill -9`.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, Protocol

from llmkit.errors import LlmkitError, UserError

FORKS = sys.platform == "linux"
TELL_SECONDS = 0.5  # between two words of a worker about its progress
PATIENCE = 10.0  # seconds for the workers to end by themselves
START = """import sys
sys.path[:] = {path!r}
from llmkit.data.curation.workers import foreman
foreman({fds})"""
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Tell = Callable[[int], None]  # how many more units of work are done


class Task(Protocol):
    """What workers do: `load` once before there are any, then `work` on each job."""

    def load(self) -> None: ...

    def work(self, job: Any, tell: Tell) -> Any: ...


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if FORKS else os.cpu_count() or 1


class Workers:
    """`num_proc` processes that work on the jobs of one task.

    They are started with the second job of a kind: a single one is done in this process, as is all
    with `num_proc` 1.

    Raises (from `results`):
        UserError: a worker died, or the task raised one.
        LlmkitError: the task failed otherwise; the message holds the worker's traceback.
    """

    def __init__(self, task: Task, num_proc: int, label: str) -> None:
        self.task, self.num_proc, self.label = task, num_proc, label
        self.loaded = False
        self.foremen: list[tuple[subprocess.Popen[bytes], Connection]] = []
        self.idle: list[Connection] = []
        self.busy: list[Connection] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        for process, _ in self.foremen:
            if kind is not None and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        for connection in (*self.idle, *self.busy):
            connection.close()  # there are no more jobs
        for process, line in self.foremen:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            line.close()
            process.wait()

    def results(self, jobs: Iterable[Any], tell: Tell) -> Iterator[Any]:
        """The result of every job, as they are ready. The next job is made while all work."""
        jobs = iter(jobs)
        first = deque(islice(jobs, 2 if self.num_proc > 1 and not self.foremen else 0))
        if self.num_proc == 1 or len(first) == 1:
            yield from self._alone(drained(first, jobs), tell)
            return
        for job in drained(first, jobs):
            if not self.foremen:
                self._start()
            while not self.idle:
                yield from self._collect(tell)
            self._send(self.idle.pop(0), job)
            del job
        while self.busy:
            yield from self._collect(tell)

    def _alone(self, jobs: Iterable[Any], tell: Tell) -> Iterator[Any]:
        if not self.loaded:
            self.task.load()
            self.loaded = True
        for job in jobs:
            yield self.task.work(job, tell)

    def _start(self) -> None:
        pairs = [Pipe() for _ in range(self.num_proc)]
        self.idle = [ours for ours, _ in pairs]
        theirs = [other for _, other in pairs]
        crews = [theirs] if FORKS else [[connection] for connection in theirs]
        for crew in crews:
            line, far = Pipe()
            self.foremen.append((started(far, crew), line))
            for connection in (far, *crew):
                connection.close()
            line.send(self.task)

    def _send(self, connection: Connection, job: Any) -> None:
        self.busy.append(connection)
        try:
            connection.send_bytes(pickle.dumps(job, pickle.HIGHEST_PROTOCOL))
        except OSError:
            raise self._death() from None

    def _collect(self, tell: Tell) -> Iterator[Any]:
        """Results that are there; waits until something is."""
        for connection in ready(self.busy):
            try:
                kind, value = connection.recv()
            except (EOFError, OSError):
                raise self._death() from None
            if kind == "told":
                tell(value)
            elif isinstance(value, Exception):
                raise value
            elif kind == "failed":
                raise LlmkitError(f"{self.label}: a worker process failed:\n{value}")
            else:
                self.busy.remove(connection)
                self.idle.append(connection)
                yield value

    def _death(self) -> Exception:
        """A worker is gone without a word: what its foreman tells of it."""
        value: Any = "for an unknown reason"
        for line in ready([line for _, line in self.foremen], PATIENCE):
            try:
                value = line.recv()
            except (EOFError, OSError):
                value = "with its foreman"
        if isinstance(value, Exception):
            return value
        remedy = "run the same command again, it goes on after the last whole blocks; if memory was"
        remedy += " short, with a lower num_proc"
        return UserError(self.label, f"a worker process died {value}", remedy)


def ready(connections: Sequence[Connection], seconds: float | None = None) -> list[Any]:
    """Those that have something to say, or have ended."""
    return wait(connections, seconds)


def drained(first: deque[Any], jobs: Iterator[Any]) -> Iterator[Any]:
    """First those that are ready, none of which is then held on to."""
    while first:
        yield first.popleft()
    yield from jobs


def started(line: Connection, crew: Sequence[Connection]) -> subprocess.Popen[bytes]:
    """A foreman in a fresh interpreter. The script that runs here is not imported there."""
    fds = [connection.fileno() for connection in (line, *crew)]
    code = START.format(path=[os.path.abspath(entry) for entry in sys.path], fds=fds)
    environment = os.environ | dict.fromkeys(ONE_THREAD, "1") | {"TOKENIZERS_PARALLELISM": "false"}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        pass_fds=fds,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def foreman(fds: Sequence[int]) -> None:
    """Load the task, fork a worker for each connection, and watch over them until they end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line, *crew = [Connection(fd) for fd in fds]
    task = line.recv()
    try:
        task.load()
    except (LlmkitError, OSError) as error:
        line.send(error)
        return
    gc.collect()
    gc.freeze()  # a collection would write to, and so copy, every page that is shared
    if len(crew) == 1:
        return serve(task, crew[0])
    context = get_context("fork")
    workers = []
    for connection in crew:
        others = [line, *(other for other in crew if other is not connection)]
        workers.append(context.Process(target=serve, args=(task, connection, others)))
        workers[-1].start()
    for connection in crew:
        connection.close()
    return watch(line, workers)


def watch(line: Connection, workers: Sequence[Any]) -> None:
    """Return when all workers have ended; end them all when the other end of `line` is gone."""
    sentinels = {worker.sentinel: worker for worker in workers}
    while sentinels:
        for ready in wait([line, *sentinels]):
            if ready is line:
                os.killpg(os.getpgrp(), signal.SIGKILL)
            worker = sentinels.pop(ready)
            worker.join()
            if worker.exitcode:
                line.send(ending(worker.exitcode))


def ending(status: int) -> str:
    """`-9` -> `of SIGKILL (out of memory, perhaps)`."""
    if status < 0:
        name = signal.Signals(-status).name
        return f"of {name}" + (" (out of memory, perhaps)" if name == "SIGKILL" else "")
    return f"with exit status {status}"


def serve(task: Task, connection: Connection, others: Sequence[Connection] = ()) -> None:
    """Work on jobs until there are no more, or nobody who would want the result."""
    for other in others:
        other.close()
    told, next_word = 0, 0.0

    def tell(count: int) -> None:
        nonlocal told, next_word
        told += count
        if time.monotonic() >= next_word:
            next_word = time.monotonic() + TELL_SECONDS
            connection.send(("told", told))
            told = 0

    try:
        while True:
            job = connection.recv()
            next_word = time.monotonic() + TELL_SECONDS
            result = outcome(task, job, tell)
            del job
            connection.send(("told", told))
            told = 0
            connection.send(result)
    except (EOFError, OSError):
        return


def outcome(task: Task, job: Any, tell: Tell) -> tuple[str, Any]:
    """What became of a job: `done` with its result, `raised` an error for people, or `failed`."""
    try:
        return "done", task.work(job, tell)
    except (LlmkitError, OSError) as error:
        return "raised", error
    except Exception:
        return "failed", traceback.format_exc()
