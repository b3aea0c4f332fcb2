"""Building native kernels: once, whole, by several processes at once, and one line where not."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from llmkit.device import cpu_flags
from llmkit.kernels import gelu as public
from llmkit.kernels import native
from llmkit.kernels.gelu import gelu

OP = "gelu"


@pytest.fixture
def cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs_native: Callable[[str], None]
) -> Path:
    """An empty cache, on a machine that can build."""
    needs_native(OP)
    monkeypatch.setenv("LLMKIT_NATIVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was compiled in this process, and the file that it became."""
    seen: list[Any] = []
    build = native._build

    def spy(*given: Any) -> None:
        seen.append(given[-1])
        build(*given)

    monkeypatch.setattr(native, "_build", spy)
    return seen


@pytest.fixture
def unasked() -> Any:
    """Nothing has been loaded or told yet in this process."""
    for cached in (native.available, native.library, native._tell):
        cached.cache_clear()
    yield
    for cached in (native.available, native.library, native._tell):
        cached.cache_clear()


def test_what_is_in_the_cache_is_not_built_again(cache: Path, builds: list[Path]) -> None:
    native.load(OP)
    native.load(OP)
    assert len(builds) == 1 and builds[0].exists()
    assert [path.name for path in cache.iterdir()] == [builds[0].name], "something was left"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_another_source_flag_or_compiler_is_another_entry(
    cache: Path, builds: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    native.load(OP)
    native.load(OP, cpu_flags() - {native.BF16})
    monkeypatch.setattr(native, "_version", lambda compiler: "another")
    native.load(OP)
    expected = 3 if native.BF16 in cpu_flags() else 2
    assert len(set(builds)) == expected


@pytest.mark.parametrize("damage", ["cut short", "one bit", "empty"])
def test_a_damaged_entry_is_built_anew(cache: Path, builds: list[Path], damage: str) -> None:
    native.load(OP)
    content = builds[0].read_bytes()
    damaged = bytearray(content)
    damaged[len(damaged) // 2] ^= 1
    # A file of its own: what is loaded stays mapped.
    builds[0].unlink()
    builds[0].write_bytes(
        {"cut short": content[:-100], "one bit": bytes(damaged), "empty": b""}[damage]
    )
    native.load(OP)
    assert len(builds) == 2 and native._whole(builds[0])


def test_two_processes_at_once(cache: Path) -> None:
    code = (
        "import torch; from llmkit.kernels.gelu.native import gelu;"
        "print(gelu(torch.tensor([1.0])).item())"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[0].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert [float(text) for text in said] == pytest.approx([0.84119199] * 2)
    assert [path.suffix for path in cache.iterdir()] == [".so"]


def test_torch_and_native_code_share_one_openmp(needs_native: Callable[[str], None]) -> None:
    needs_native(OP)
    gelu(torch.randn(1 << 16))
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    pools = {line.split()[-1] for line in maps if "libgomp" in line or "libiomp" in line}
    ours = native.library(OP)._name
    assert any(ours in line for line in maps) and len(pools) == 1, pools
    assert b"GOMP_parallel" in Path(ours).read_bytes(), "it runs by one thread alone"


class Refused:
    """Ways of having no native code, and what the one line says of each."""

    @staticmethod
    def switched_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
        monkeypatch.setenv("LLMKIT_NATIVE", "0")
        return "switched off by LLMKIT_NATIVE=0"

    @staticmethod
    def no_avx512(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
        monkeypatch.setattr(native, "cpu_flags", lambda: frozenset({"avx2", "fma"}))
        return "this CPU has no avx512f"

    @staticmethod
    def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
        monkeypatch.setattr(native, "cpu_flags", lambda: frozenset(native.NEEDED))
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        return "no C++ compiler is here (g++, c++)"

    @staticmethod
    def broken_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
        monkeypatch.setattr(native, "cpu_flags", lambda: frozenset(native.NEEDED))
        broken = tmp_path / "compiler"
        broken.write_text("#!/bin/sh\necho 'error: no such option' >&2\nexit 1\n")
        broken.chmod(0o700)
        monkeypatch.setenv("CXX", str(broken))
        return "failed (error: no such option)"

    @staticmethod
    def no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
        monkeypatch.setattr(native, "cpu_flags", lambda: frozenset(native.NEEDED))
        monkeypatch.setattr(native, "_compiler", lambda: "/bin/true")
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("LLMKIT_NATIVE_CACHE", str(tmp_path / "file" / "folder"))
        return "LLMKIT_NATIVE_CACHE names another"


WAYS = [name for name in vars(Refused) if not name.startswith("_")]


@pytest.mark.parametrize("way", WAYS)
def test_one_line_says_why_torch_runs_instead(
    way: str,
    unasked: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    message = getattr(Refused, way)(monkeypatch, tmp_path)
    x = torch.randn(1 << 14)
    with caplog.at_level(logging.WARNING, "llmkit"):
        y = gelu(x)
        assert not native.available("layer_norm") and not native.available("gelu")
    assert torch.equal(y, torch.nn.functional.gelu(x, approximate="tanh"))
    (line,) = caplog.messages
    assert message in line and "torch's own operations run instead" in line


def test_a_cpu_without_bfloat16_instructions_lacks_attention_alone() -> None:
    flags = frozenset(native.NEEDED)
    assert "avx512_bf16" in (native.refusal("attention", flags) or "")
    assert "avx512_bf16" not in (native.refusal("gelu", flags) or "")


def test_source_that_does_not_compile_is_an_error(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As `load` says; only `available` turns it into the one line."""
    wrong = tmp_path / "native.cpp"
    wrong.write_text("this is no C++\n")
    monkeypatch.setattr(native, "_sources", lambda op: [wrong])
    with pytest.raises(native.NativeError, match="error: 'this' does not name|failed"):
        native.load(OP)


def test_a_compiler_that_hangs_is_given_up(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = tmp_path / "compiler"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o700)
    monkeypatch.setenv("CXX", str(slow))
    monkeypatch.setattr(native, "BUILD_SECONDS", 0.2)
    with pytest.raises(native.NativeError, match="took longer"):
        native.load(OP)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # of torch's own jvp
def test_who_traces_transforms_or_watches_gets_torch(
    needs_native: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_native(OP)
    calls: list[int] = []
    apply = public.native._Gelu.apply
    monkeypatch.setattr(public.native._Gelu, "apply", lambda x: (calls.append(1), apply(x))[1])
    x = torch.randn(3, 1 << 12)
    assert gelu(x).shape == x.shape and calls == [1]
    torch.vmap(gelu)(x)
    torch.func.grad(lambda x: gelu(x).sum())(x)
    torch.func.jvp(gelu, (x,), (x,))
    gelu(x.to("meta")), gelu(x[:0]), gelu(x[:, :9]), gelu(x.double()), gelu(x.half())
    with FlopCounterMode(display=False):
        gelu(x)
    torch.compile(gelu, backend="eager", fullgraph=True)(x)
    torch._dynamo.reset()
    assert calls == [1]
