"""Patches on a model whose weights FSDP2 spreads over two processes: stock's loss and gradients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent


@pytest.mark.parametrize("native", ["0", "1"])
def test_patched_model_in_shards_equals_the_whole_stock_one(tmp_path: Path, native: str) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, str(TESTS / "patches/two_shards.py"), str(tmp_path / "found.json")],
        env=os.environ | {"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "LLMKIT_NATIVE": native},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for found in json.loads((tmp_path / "found.json").read_text()):
        assert found["names"] == ["attention", "layer_norm", "gelu", "fused_head_loss"]
        assert found["loss"] == pytest.approx(found["stock"], rel=1e-5)
        assert len(found["off"]) == 40 and max(found["off"].values()) < 1e-5
