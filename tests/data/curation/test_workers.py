"""Workers: every job is done once, and nothing is left behind, whatever happens to whom."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmkit.data.curation.workers import Workers
from llmkit.errors import GateError, InputError, LlmkitError, UserError

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@dataclass(frozen=True)
class Squares:
    """A task; `what` says what befalls the job 5."""

    what: str = ""

    def load(self):
        LOADED.append(os.getpid())
        if self.what == "load":
            raise InputError("words.txt", "no such file", "check the path")

    def work(self, job, tell):
        tell(1)
        if job == 5 and self.what == "user":
            raise InputError("a.jsonl:7", "not JSON", "mend it")
        if job == 5 and self.what == "gate":
            raise GateError("first_loss", 9.5, "at most 7", "look")
        if job == 5 and self.what == "fault":
            raise ZeroDivisionError("of a step")
        if job == 5 and self.what == "death":
            os.kill(os.getpid(), signal.SIGKILL)
        if job == 5 and self.what == "exit":
            os._exit(3)
        return job, job * job, os.getpid(), LOADED[-1], threads()


LOADED: list[int] = []


def threads() -> int:
    return len(list(Path("/proc/self/task").glob("*")))


def run(task, num_proc, jobs=range(12)):
    told = []
    with Workers(task, num_proc, "curate") as workers:
        found = list(workers.results(iter(jobs), told.append))
        assert sum(told) == len(list(jobs))
    return found


@linux
def test_all_jobs_are_done_by_workers_that_loaded_once():
    found = run(Squares(), 3)
    assert sorted(row[:2] for row in found) == [(n, n * n) for n in range(12)]
    pids = {row[2] for row in found}
    assert os.getpid() not in pids and 1 <= len(pids) <= 3
    assert len({row[3] for row in found}) == 1, "loaded in the one process they were forked from"
    assert {row[3] for row in found}.isdisjoint(pids)
    assert {row[4] for row in found} == {1}, "forked from several threads"


def test_one_process_or_one_job_needs_no_worker():
    for found in (run(Squares(), 1), run(Squares(), 3, [4])):
        assert {row[2] for row in found} == {os.getpid()}
    assert run(Squares(), 3, []) == []


def test_a_second_round_of_jobs_goes_to_the_same_workers():
    with Workers(Squares(), 2, "curate") as workers:
        first = {row[2] for row in workers.results(iter(range(6)), lambda _: None)}
        again = {row[2] for row in workers.results(iter([9]), lambda _: None)}
        assert again <= first and os.getpid() not in again


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        ("user", InputError, r"^a\.jsonl:7: not JSON; mend it$"),
        ("gate", GateError, "first_loss"),
        ("load", InputError, r"words\.txt: no such file"),
        ("fault", LlmkitError, r"(?s)curate: a worker process failed:.*ZeroDivisionError: of a"),
        ("death", UserError, "curate: a worker process died of SIGKILL .*run the same command"),
        ("exit", UserError, "curate: a worker process died with exit status 3"),
    ],
)
def test_what_goes_wrong_in_a_worker_is_one_clear_error(what, kind, message):
    with pytest.raises(kind, match=message) as raised, Workers(Squares(what), 2, "curate") as all_:
        try:
            list(all_.results(iter(range(12)), lambda _: None))
        finally:
            foremen = [process for process, _ in all_.foremen]
    assert type(raised.value) is kind
    for process in foremen:
        assert process.poll() is not None
        wait_for_the_end_of(process.pid)


def test_an_error_in_the_jobs_ends_the_workers():
    def jobs():
        yield from range(4)
        raise InputError("b.jsonl", "is broken", "")

    with pytest.raises(InputError), Workers(Squares(), 2, "curate") as workers:
        for _ in workers.results(jobs(), lambda _: None):
            pass
    assert all(process.poll() is not None for process, _ in workers.foremen)


@dataclass(frozen=True)
class Sleeper:
    folder: str

    def load(self):
        pass

    def work(self, job, tell):
        (Path(self.folder) / str(os.getpid())).touch()
        subprocess.Popen(["sleep", "600"])  # what a step may have started
        time.sleep(600)


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_process_that_they_work_for(tmp_path, number):
    code = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_workers import Sleeper
from llmkit.data.curation.workers import Workers
with Workers(Sleeper({str(tmp_path)!r}), 2, "x") as workers:
    list(workers.results(iter(range(9)), print))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    pids = [int(path.name) for path in tmp_path.iterdir()]
    group = os.getpgid(pids[0])
    assert group != os.getpgid(process.pid), "Ctrl-C would reach the workers too"
    for _ in range(6):  # Python drops a KeyboardInterrupt that falls into a destructor
        os.kill(process.pid, number)
        try:
            process.wait(10)
            break
        except subprocess.TimeoutExpired:
            continue
    assert process.wait(1) != 0
    wait_for_the_end_of(group)


def wait_for_the_end_of(group: int) -> None:
    deadline = time.monotonic() + 60
    while sys.platform == "linux" and members(group):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def members(group: int) -> list[int]:
    """Living processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = path.read_text().partition(" (")
        except OSError:
            continue
        state, _, its_group = rest.rpartition(")")[2].split()[:3]
        if int(its_group) == group and state not in "ZX":
            found.append(int(pid))
    return found
