"""benchmarks.gpu: a section's failure is recorded, told by the exit status, and costs no other."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import correctness
from benchmarks.gpu.setting import Setting


def test_a_failing_section_is_recorded_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(setting: Setting) -> dict[str, Any]:
        raise RuntimeError("no such kernel")

    sections = {
        "broken": broken,
        "wrong": lambda setting: {"failures": ["gelu (1,) bfloat16"], "rows": [1]},
        "well": lambda setting: {"rows": [2], "failures": []},
    }
    monkeypatch.setattr(gpu, "SECTIONS", sections)
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path), "--dry-run", "--in-process"])
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert gpu.main() == 1
    found = json.loads((tmp_path / "summary.json").read_text())["sections"]
    assert {name: record["status"] for name, record in found.items()} == {
        "broken": "failed", "wrong": "failed", "well": "ok",
    }  # fmt: skip
    assert "no such kernel" in found["broken"]["traceback"]
    assert found["wrong"]["result"]["rows"] == [1]
    assert json.loads((tmp_path / "well.json").read_text())["result"]["rows"] == [2]
    late = Setting.make(True, time.monotonic() - 1)
    assert gpu.run_section("well", late)["status"] == "skipped"


def test_a_wrong_kernel_does_not_pass() -> None:
    import torch

    def off(shape: Any, dtype: Any, device: str) -> correctness.Values:
        (x,) = correctness.leaves(correctness.leaf(shape, dtype, device, 0), double=False)
        return [x * 1.001], [x]

    def nan(shape: Any, dtype: Any, device: str) -> correctness.Values:
        outputs, leaves = off(shape, dtype, device)
        return [outputs[0] * float("nan")], leaves

    def truth(shape: Any, dtype: Any, device: str) -> correctness.Values:
        (x,) = correctness.leaves(correctness.leaf(shape, dtype, device, 0), double=True)
        return [x * 1.0], [x]

    for wrong in (off, nan):
        assert not correctness.compare(wrong, truth, (3, 5), torch.float32, "cpu")["ok"]
    assert correctness.compare(truth, truth, (3, 5), torch.float32, "cpu")["ok"]
