"""Where a result comes from: the recipe's git revision and the machine it was made on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any


def git_revision(folder: Path) -> str | None:
    """Commit of the tree that holds `folder`, `+changes` when it is not clean, None outside git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return commit + ("+changes" if _git(folder, "status", "--porcelain") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None  # git is not installed or does not answer: the revision is unknown
    return done.stdout.strip() if done.returncode == 0 else None


def hardware() -> dict[str, Any]:
    """Processor, cores usable here, memory in GB, and the GPUs that a loaded torch can see.

    And `native_kernels`: the operations that ran by native CPU code in this process so far. Without
    them (`LLMKIT_NATIVE=0`, no compiler) the last bits of what is trained are others.
    """
    torch = sys.modules.get("torch")  # a stage that did not load torch used no GPU
    native = sys.modules.get("llmkit.kernels.native")
    gpus = []
    if torch is not None and torch.cuda.is_available():
        gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpus": gpus,
        "native_kernels": [] if native is None else native.loaded(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
