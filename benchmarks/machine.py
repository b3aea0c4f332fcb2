"""Where and how quietly a benchmark ran, and the file that its figures go to.

Another busy process distorts timings on two threads 2 to 10 times, so every result says what share
of the machine was somebody else's while it was measured (from /proc/stat, see proc(5)).
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
DISTURBED_SHARE = 0.05  # of all cores; above this the figures are not to be trusted
LIBRARIES = ("torch", "transformers", "trl", "accelerate")


class ForeignTime:
    """Share of the machine's CPU time that went to processes other than `pids` (and this one)."""

    def __init__(self, pids: Sequence[int] = ()) -> None:
        self.pids = [os.getpid(), *pids]
        self.began = self._now()

    def share(self) -> float:
        """Since the start, 0 to 1 of all cores. Only where /proc is (Linux)."""
        clock, busy, ours, children = self._now()
        clock0, busy0, ours0, children0 = self.began
        foreign = (busy - busy0) - (ours - ours0) - (children - children0)
        return max(0.0, foreign / ((clock - clock0) * (os.cpu_count() or 1)))

    def _now(self) -> tuple[float, float, float, float]:
        tick = os.sysconf("SC_CLK_TCK")
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
        user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
        busy = (user + nice + system + irq + softirq + steal) / tick
        ours = sum(_seconds_of(pid) for pid in self.pids) / tick
        spent = os.times()
        return time.monotonic(), busy, ours, spent.children_user + spent.children_system


def _seconds_of(pid: int) -> int:
    """Ticks of user and system time of one process, all its threads."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[11]) + int(after_name[12])


def machine() -> dict[str, Any]:
    """Processor, cores, instruction sets that matter, memory, Python and library versions."""
    info = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    entries = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in info)}
    flags = set(entries.get("flags", "").split())
    return {
        "processor": entries.get("model name", platform.processor()),
        "cores": len(os.sched_getaffinity(0)),
        "avx512": "avx512f" in flags,
        "amx_bf16": "amx_bf16" in flags,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
    }


def write_result(name: str, result: dict[str, Any], foreign: float, output: Path | None) -> Path:
    """Write `result` with machine, date and quietness to `output`, or `results/<name>.json`."""
    path = output or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    disturbed = foreign > DISTURBED_SHARE
    whole = {
        "benchmark": name,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "foreign_cpu_share": round(foreign, 4),
        "disturbed": disturbed,
        **result,
    }
    path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    if disturbed:
        print(f"disturbed: {foreign:.0%} of the machine was busy with something else; run it again")
    print(f"written: {path}")
    return path
