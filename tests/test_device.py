"""What is chosen for a machine, and that the allocator keeps what it frees."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from llmkit import device

# Blocks of 48 MiB, aligned as torch aligns its own; no torch, which takes seconds to import.
FAULTS = """
import ctypes, resource, sys
from llmkit.device import tune_allocator

if sys.argv[1] == "tuned":
    assert tune_allocator()
libc, size = ctypes.CDLL("libc.so.6"), 48 * 2**20
for number in range(20):
    if number == 10:  # by then the small remainders around aligned blocks have settled
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = ctypes.c_void_p()
    assert libc.posix_memalign(ctypes.byref(block), 64, size) == 0
    ctypes.memset(block, 1, size)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_the_tuned_allocator_stops_faulting_pages_in_again() -> None:
    """Ten times 48 MiB: mapped afresh each time by default, once with mallopt."""
    faults = {}
    for mode in ("stock", "tuned"):
        command = [sys.executable, "-c", FAULTS, mode]
        root = Path(__file__).parents[1]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
        faults[mode] = int(done.stdout)
    pages_of_one = 48 * 2**20 // resource.getpagesize()
    assert faults["tuned"] < pages_of_one
    assert faults["tuned"] < faults["stock"] / 2


# The odd blocks are freed, and even ones between them keep the heap from shrinking at its end.
PIECES = """
import ctypes
from pathlib import Path
from llmkit.device import tune_allocator

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

assert tune_allocator()
libc, size = ctypes.CDLL("libc.so.6"), 2**20
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
blocks = [libc.malloc(size) for _ in range(200)]
for block in blocks:
    ctypes.memset(block, 1, size)
full = resident_mb()
for block in blocks[::2]:
    libc.free(block)
kept = resident_mb()
tune_allocator()
print(full - kept, full - resident_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's")
def test_what_a_stage_left_in_pieces_goes_back_when_the_next_one_begins() -> None:
    command, root = [sys.executable, "-c", PIECES], Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    at_once, at_the_next = map(float, done.stdout.split())
    assert at_once < 5 and at_the_next > 90  # of 100 MiB


@pytest.mark.parametrize(
    ("libc", "expected"), [(("", ""), False), (("glibc", "2.36"), True)], ids=["other", "glibc"]
)
def test_other_c_libraries_are_left_alone(
    libc: tuple[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if expected and platform.libc_ver()[0] != "glibc":
        pytest.skip("mallopt is glibc's")
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    assert device.tune_allocator() is expected


@pytest.mark.parametrize(
    ("flag", "fast"), [("amx_bf16", True), ("avx512_bf16", True), ("avx512_vnni", False)]
)
def test_bf16_on_a_cpu_only_with_its_products(
    flag: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "cpu_flags", lambda: frozenset({"avx512f", flag}))
    chosen = device.precision_arguments({"use_cpu": True})
    assert chosen == {"bf16": fast, "fp16": False, "use_cpu": True, "dataloader_pin_memory": False}
    assert device.precision_arguments({"use_cpu": True, "bf16": not fast})["bf16"] is not fast
    fp16 = device.precision_arguments({"use_cpu": True, "fp16": True})
    assert fp16["fp16"] and not fp16["bf16"]


def test_a_gpu_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **kwargs: True)
    chosen = device.precision_arguments()
    assert chosen == {"bf16": True, "fp16": False, "use_cpu": False, "dataloader_pin_memory": True}


def test_describes_this_machine() -> None:
    machine = json.loads(json.dumps(device.describe()))
    assert machine["cpu"] and machine["cores"] >= 1
    assert machine["cores"] <= (os.cpu_count() or 1)
    assert machine["memory_bytes"] > 2**28
    assert len(machine["gpus"]) == torch.cuda.device_count()
