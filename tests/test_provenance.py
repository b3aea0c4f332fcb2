"""Where a result comes from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmkit.provenance import git_revision, hardware


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_revision_of_a_tree_says_whether_it_is_clean(tmp_path: Path) -> None:
    assert git_revision(tmp_path) is None
    git(tmp_path, "init")
    assert git_revision(tmp_path) is None  # nothing is committed yet
    (tmp_path / "a.yaml").write_text("a")
    git(tmp_path, "add", "a.yaml")
    git(tmp_path, "commit", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_revision(tmp_path) == commit
    (tmp_path / "a.yaml").write_text("b")
    assert git_revision(tmp_path) == f"{commit}+changes"


def test_revision_is_unknown_where_git_is_not_installed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision(tmp_path) is None


def test_hardware_is_this_machine() -> None:
    found = hardware()
    assert 1 <= found["cores"] <= (os.cpu_count() or 1)
    assert found["memory_gb"] > 0.1 and found["processor"]


NATIVE = """
import json, sys
from llmkit.provenance import hardware
told = [hardware()["native_kernels"]]
assert "torch" not in sys.modules, "telling the hardware imports nothing heavy"
import torch
from llmkit.kernels.gelu import gelu, native
gelu(torch.ones(native.FEWEST_ELEMENTS - 1))  # too few for native code
told.append(hardware()["native_kernels"])
gelu(torch.ones(native.FEWEST_ELEMENTS))
told.append(hardware()["native_kernels"])
print(json.dumps(told))
"""


@pytest.mark.parametrize("allowed", [True, False])
def test_native_kernels_are_told_where_they_ran(allowed: bool) -> None:
    from llmkit.device import cpu_flags
    from llmkit.kernels import native

    if allowed and native.refusal("gelu", cpu_flags()):
        pytest.skip(str(native.refusal("gelu", cpu_flags())))
    chosen = {} if allowed else {"LLMKIT_NATIVE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", NATIVE], capture_output=True, text=True, env=os.environ | chosen
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], [], ["gelu"] if allowed else []]
