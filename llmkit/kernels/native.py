"""Native CPU kernels: compiled on first use, kept in a cache, loaded once a process.

An operation's C++ files lie in its folder (`gelu/native.cpp`). They are plain functions on raw
pointers without torch's headers, so that one compiles in about a second. What it makes is kept
under a name that holds the sources, the compiler and its flags, so nothing stale is ever found, and
ends with its own checksum, so nothing damaged is ever loaded. It is written beside and renamed:
processes that build at once do not meet.

The compiled code calls GOMP_parallel and is linked against no OpenMP library: it binds to the one
that torch has loaded, and shares its threads. A second one beside it would spin against them.

Environment:
    LLMKIT_NATIVE=0: no native kernels; torch's own operations run instead.
    LLMKIT_NATIVE_CACHE: the folder, instead of `llmkit/native` in the user's cache folder.
    CXX: the compiler, instead of the first of g++ and c++.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from llmkit.device import cpu_flags

log = logging.getLogger("llmkit")

KERNELS = Path(__file__).resolve().parent
NEEDED = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "fma")
BF16 = "avx512_bf16"  # as the Linux kernel calls it; -mavx512bf16 to a compiler
NEEDED_BY = {"attention": (BF16,)}
COMPILERS = ("g++", "c++")
FLAGS = (
    "-O3", "-funroll-loops", "-std=c++17", "-fPIC", "-fopenmp", "-fno-exceptions", "-fno-rtti",
    "-w",  # GCC warns of its own header of intrinsics
)  # fmt: skip
_loaded: set[str] = set()
BUILD_SECONDS = 120.0  # the longest that one call of the compiler may take
DIGEST = hashlib.sha256
# Elements that a second thread is worth: GELU by one and by two takes 7.9 and 7.8 us for 2^13, 10.4
# and 9.5 for 2^14, 14.8 and 11.9 for 2^15.
WORTH_A_THREAD = 1 << 14


class NativeError(Exception):
    """Why an operation has no native form here."""


@functools.cache
def available(op: str) -> bool:
    """Whether an operation has a native form here; where not, a line in the log says why.

    The line is the same for every operation that is missing for the same reason, and is told once a
    process.
    """
    try:
        library(op)
    except NativeError as error:
        _tell(str(error))
        return False
    return True


@functools.cache
def library(op: str) -> ctypes.CDLL:
    """The compiled functions of an operation for this CPU; NativeError where there are none."""
    functions = load(op)
    _loaded.add(op)
    return functions


def loaded() -> list[str]:
    """The operations that this process has run natively so far: none is loaded before it is due."""
    return sorted(_loaded)


@functools.cache
def _tell(reason: str) -> None:
    log.warning("native CPU kernels: %s; torch's own operations run instead", reason)


def load(op: str, flags: frozenset[str] | None = None) -> ctypes.CDLL:
    """The compiled functions of an operation, built where the cache does not hold them.

    Args:
        op: a folder of `llmkit/kernels`.
        flags: the instruction sets to build for, by default all that this CPU has.

    Raises:
        NativeError: `refusal` says why, or the compiler fails, or what it made cannot be loaded.
    """
    flags = cpu_flags() if flags is None else flags
    reason = refusal(op, flags)
    if reason:
        raise NativeError(reason)
    compiler = _compiler() or ""
    options = [f"-m{flag.replace('_', '')}" for flag in (*NEEDED, BF16) if flag in flags]
    entry = _folder() / f"{op}-{_key(op, compiler, options)}.so"
    if not _whole(entry):
        _build(op, compiler, options, entry)
    try:
        return ctypes.CDLL(str(entry))
    except OSError as error:
        raise NativeError(f"what {compiler} made cannot be loaded ({error})") from error


def refusal(op: str, flags: frozenset[str]) -> str | None:
    """Why native code cannot be had or is not wanted here, whatever the compiler would say."""
    if os.environ.get("LLMKIT_NATIVE") == "0":
        return "switched off by LLMKIT_NATIVE=0"
    if platform.system() != "Linux":
        return f"they are for Linux, and this is {platform.system()}"
    for flag in (*NEEDED, *NEEDED_BY.get(op, ())):
        if flag not in flags:
            return f"this CPU has no {flag}"
    if _compiler() is None:
        return f"no C++ compiler is here ({os.environ.get('CXX') or ', '.join(COMPILERS)})"
    return None


def call(function: Callable[..., int | None], *arguments: object) -> None:
    """Call a compiled function; tensors go as their address, None as a null pointer.

    Each returns 0, or 1 where it found no memory.
    """
    if function(*map(_as_c, arguments)):
        raise MemoryError("a native CPU kernel found no memory for its scratch")


def _as_c(argument: object) -> object:
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    if isinstance(argument, int):
        return ctypes.c_int64(argument)
    return argument


def numbers(values: Sequence[int]) -> ctypes.Array[ctypes.c_int64]:
    """A C struct of int64 fields and pointers."""
    return (ctypes.c_int64 * len(values))(*values)


def threads(elements: int) -> ctypes.c_int:
    """How many threads are to share `elements`: all of torch's, or one.

    Nothing between: OpenMP would end the threads that are not wanted, and torch start them again.
    """
    return ctypes.c_int(torch.get_num_threads() if elements >= WORTH_A_THREAD else 1)


def named(dtype: torch.dtype) -> str:
    """The dtype's name in the names of compiled functions: `float32` or `bfloat16`."""
    return str(dtype).removeprefix("torch.")


def _compiler() -> str | None:
    wanted = os.environ.get("CXX")
    found = map(shutil.which, (wanted,) if wanted else COMPILERS)
    return next((path for path in found if path), None)


@functools.cache
def _version(compiler: str) -> str:
    return _run([compiler, "--version"])


def _key(op: str, compiler: str, options: list[str]) -> str:
    """Everything that decides what the compiler makes, in short."""
    told = [compiler, _version(compiler), platform.machine(), *FLAGS, *options]
    for file in (*sorted(KERNELS.glob("*.h")), *sorted((KERNELS / op).glob("*.h")), *_sources(op)):
        told += [file.name, file.read_text(encoding="utf-8")]
    return DIGEST("\0".join(told).encode()).hexdigest()[:24]


def _sources(op: str) -> list[Path]:
    return sorted((KERNELS / op).glob("*.cpp"))


def _folder() -> Path:
    """The cache folder, made where it is missing, readable by its user alone."""
    chosen = os.environ.get("LLMKIT_NATIVE_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(chosen) if chosen else Path(home) / "llmkit" / "native"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise NativeError(
            f"no cache folder ({error}; LLMKIT_NATIVE_CACHE names another)"
        ) from error
    return folder


def _whole(entry: Path) -> bool:
    """Whether the file is there and ends with the checksum of what stands before."""
    if not entry.exists():
        return False
    content = entry.read_bytes()
    size = DIGEST().digest_size
    return DIGEST(content[:-size]).digest() == content[-size:]


def _build(op: str, compiler: str, options: list[str], entry: Path) -> None:
    """Compile and link in a folder of its own, then put the result in its place at once."""
    try:
        with tempfile.TemporaryDirectory(dir=entry.parent, prefix="build-") as made:
            objects = []
            for source in _sources(op):
                objects.append(str(Path(made) / f"{source.stem}.o"))
                include = ["-I", str(KERNELS), "-c", str(source), "-o", objects[-1]]
                _run([compiler, *FLAGS, *options, *include])
            linked = Path(made) / "linked.so"
            _run([compiler, "-shared", *objects, "-o", str(linked)])
            content = linked.read_bytes()
            linked.write_bytes(content + DIGEST(content).digest())
            os.replace(linked, entry)
    except OSError as error:
        raise NativeError(f"nothing can be built in {entry.parent} ({error})") from error


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise NativeError(f"{command[0]} took longer than {BUILD_SECONDS:.0f} s") from error
    except OSError as error:
        raise NativeError(f"{command[0]} does not start ({error})") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
        raise NativeError(f"{command[0]} failed ({said[0].strip()})")
    return done.stdout
