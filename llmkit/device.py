"""What this machine computes best with, and its allocator set up for training.

On a CPU two things decide the speed more than any kernel (measured on GPT-2 training):

- glibc maps and unmaps every large tensor afresh, so each step pays its page faults again.
  `mallopt` (https://man7.org/linux/man-pages/man3/mallopt.3.html) keeps the memory: about +28 %.
- bfloat16 runs 4 to 7 times faster than float32 where the CPU has AMX, 2 to 3.6 times where it has
  AVX-512's products in bfloat16, and 4 times slower where it has neither.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import logging
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger("llmkit")

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
BF16_FLAGS = {"amx_bf16", "avx512_bf16"}  # as the kernel calls them; a product in one instruction
LARGEST_INT = 2**31 - 1  # mallopt takes a C int
TOP_PAD_BYTES = 64 * 2**20


def tune_allocator() -> bool:
    """Keep freed memory in the process instead of mapping it afresh; True where that is possible.

    Must come before the large tensors. Only glibc has `mallopt`; elsewhere nothing changes. The
    process holds on to the peak of a stage until the next one calls this: what an earlier one has
    left in pieces goes back to the system first, so that stages in one process do not add up.
    """
    if platform.libc_ver()[0] != "glibc":
        log.debug("allocator: no glibc here, so mallopt is left alone")
        return False
    gc.collect()  # a trainer and its model hold each other
    libc = ctypes.CDLL("libc.so.6")
    libc.malloc_trim(0)
    mallopt = libc.mallopt
    wanted = {
        M_MMAP_MAX: 0,
        M_TRIM_THRESHOLD: LARGEST_INT,
        M_TOP_PAD: TOP_PAD_BYTES,
    }
    done = [mallopt(ctypes.c_int(key), ctypes.c_int(value)) == 1 for key, value in wanted.items()]
    log.debug("allocator: mallopt %s", "set" if all(done) else "refused a setting")
    return all(done)


@functools.cache
def cpu_flags() -> frozenset[str]:
    """The instruction sets that the kernel reports (empty where there is no /proc/cpuinfo)."""
    return frozenset(_cpuinfo().get("flags", "").split())


def has_fast_bf16(device: str) -> bool:
    """Whether matrix products in bfloat16 beat float32 on `device` (`"cpu"` or `"cuda"`)."""
    import torch

    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and not BF16_FLAGS.isdisjoint(cpu_flags())


def precision_arguments(args: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`bf16`, `fp16`, `use_cpu` and `dataloader_pin_memory` for this machine.

    Args:
        args: what the user chose; those choices stand, and the others follow from them.
    """
    import torch

    chosen = dict(args or {})
    cpu = bool(chosen.get("use_cpu", not torch.cuda.is_available()))
    fp16 = bool(chosen.get("fp16", False))
    bf16 = bool(chosen.get("bf16", not fp16 and has_fast_bf16("cpu" if cpu else "cuda")))
    pinned = bool(chosen.get("dataloader_pin_memory", not cpu))
    return {"bf16": bf16, "fp16": fp16, "use_cpu": cpu, "dataloader_pin_memory": pinned}


def describe() -> dict[str, Any]:
    """The machine, for `stage.json`: `{cpu, cores, memory_bytes, amx, gpus}`."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "cpu": _cpuinfo().get("model name") or platform.processor() or platform.machine(),
        "cores": available_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "amx": "amx_bf16" in cpu_flags(),
        "gpus": gpus,
    }


def available_cores() -> int:
    """Cores this process may run on (a container or `taskset` may allow fewer than there are)."""
    if platform.system() == "Linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpuinfo() -> dict[str, str]:
    """The first processor's entry of /proc/cpuinfo."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text(encoding="utf-8").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
