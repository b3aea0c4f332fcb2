"""The parts of a training's memory: by hand, and at their sum against a process that trains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmkit.cost.hardware import GIB, hardware_of
from llmkit.cost.memory import Load, memory_of
from llmkit.cost.shapes import Shape, gpt2
from llmkit.cost.speed import PUBLISHED

TESTS = Path(__file__).parents[1]
BOTH = ("gelu", "fused_head_loss")
SMALL = PUBLISHED[0].shape  # 124M
CPU, GPU = hardware_of("cpu-fp32"), hardware_of("H100")


def load(**changes: Any) -> Load:
    return Load(**({"rows": 8, "length": 1024, "patches": BOTH} | changes))


def test_weights_gradients_and_moments_by_hand() -> None:
    n = 124_439_808
    found = memory_of(SMALL, load(), GPU)
    assert (found.weights, found.gradients, found.optimizer) == (4 * n, 4 * n, 8 * n)
    matrices = 12 * 12 * 768**2 + 50257 * 768
    assert found.copies == 2 * matrices
    assert memory_of(SMALL, load(half=False), GPU).copies == 0
    muon = memory_of(SMALL, load(optimizer="muon"), GPU)
    assert muon.optimizer == 8 * n - 4 * 12 * 12 * 768**2
    assert memory_of(SMALL, load(optimizer="adafactor"), GPU).optimizer == 0


def test_a_layers_activations_by_hand() -> None:
    """bf16 with fused GELU: 2 float32 residuals, 14 C in two bytes; 3 float32 rows at the ends."""
    found = memory_of(SMALL, load(), GPU)
    tokens = 8 * 1024
    layer = tokens * (8 * 768 + 2 * 14 * 768)
    assert found.activations == 12 * layer + tokens * 14 * 768
    whole = memory_of(SMALL, load(recompute=True), GPU)
    assert whole.activations == 12 * tokens * 4 * 768 + layer + tokens * 14 * 768
    spelled_out = memory_of(SMALL, load(patches=("fused_head_loss",)), GPU)
    assert spelled_out.activations - found.activations == 12 * tokens * 16 * 4 * 768


def test_logits_of_all_rows_or_of_some() -> None:
    stock = memory_of(SMALL, load(patches=("gelu",)), GPU)
    assert stock.loss == 8 * 1024 * 50257 * 18
    fused = memory_of(SMALL, load(), GPU)
    assert fused.loss == 2**28 // 50257 * 50257 * 4 + 4 * 50257 * 768
    on_cpu = memory_of(SMALL, load(half=False), CPU)
    assert on_cpu.loss == 128 * 50257 * 16 + 4 * 50257 * 768
    assert memory_of(SMALL, load(head_loss=False), GPU).loss == 0


def test_the_logits_of_a_plan_are_those_of_the_kernels() -> None:
    """The plan must not import torch, so it writes the number down again."""
    from llmkit.cost.memory import FUSED_LOGITS, FUSED_ROWS
    from llmkit.kernels.head_chunks import CHUNK_ELEMENTS, FEWEST_ROWS

    assert (FUSED_LOGITS["cpu"], FUSED_LOGITS["gpu"]) == tuple(CHUNK_ELEMENTS.values())
    assert FUSED_ROWS == FEWEST_ROWS


def test_what_ranks_share() -> None:
    alone = memory_of(SMALL, load(), GPU)
    ddp = memory_of(SMALL, load(ranks=8), GPU)
    assert ddp.gradients == 2 * alone.gradients and ddp.optimizer == alone.optimizer
    zero = memory_of(SMALL, load(ranks=8, sharding="zero2"), GPU)
    assert zero.gradients == alone.gradients / 8 and zero.weights == alone.weights
    fsdp = memory_of(SMALL, load(ranks=8, sharding="fsdp2"), GPU)
    assert fsdp.weights == alone.weights / 8 and fsdp.optimizer == alone.optimizer / 8
    assert fsdp.activations == alone.activations


def test_more_models() -> None:
    alone = memory_of(SMALL, load(), GPU)
    dpo = memory_of(SMALL, load(forwards=1), GPU)
    assert dpo.weights == 2 * alone.weights and dpo.gradients == alone.gradients
    lora = memory_of(SMALL, load(trained=0.01), GPU)
    assert lora.optimizer == pytest.approx(alone.optimizer / 100)


def test_llm_c_trained_these_where_they_fit() -> None:
    """On 80 GiB with its own rows a rank. (Its 1558M takes ZeRO-1, which this is not.)"""
    for run, rows in zip(PUBLISHED[:3], (64, 64, 32), strict=True):
        found = memory_of(run.shape, load(rows=rows, ranks=8), run.hardware)
        assert found.peak < 80 * GIB, run.name


def sizes(layers: int, width: int, heads: int, rows: int) -> list[int]:
    return [layers, width, heads, 8192, 256, rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "patches"),
    [
        (sizes(4, 256, 4, 8), "auto"),
        (sizes(6, 384, 6, 8), "auto"),
        (sizes(8, 512, 8, 4), "auto"),
        (sizes(4, 256, 4, 8), "none"),
    ],
)
def test_the_peak_of_a_process_that_trains(given: list[int], patches: str) -> None:
    script = str(TESTS / "measure_memory.py")
    command = [sys.executable, script, *map(str, given), patches]
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    layers, width, heads, vocabulary, context, rows = given
    keys = {"n_layer": layers, "n_embd": width, "n_head": heads, "vocab_size": vocabulary}
    shape: Shape = gpt2({**keys, "n_positions": context})
    own = BOTH if patches == "auto" else ()
    asked = Load(rows=rows, length=context, half=False, patches=own)
    assert memory_of(shape, asked, CPU).peak == pytest.approx(
        int(done.stdout.split()[-1]), rel=0.15
    )
