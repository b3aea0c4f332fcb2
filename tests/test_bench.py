"""`llmkit bench patches`: every variant agrees and is timed; one that disagrees is not."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from llmkit.bench import patches as bench
from llmkit.bench.training_step import Workload, make_model, measure
from llmkit.cli import main
from llmkit.errors import UserError
from llmkit.patch import PATCHES

TINY = Workload(size="tiny", batch=2, context=16, steps=1, dtype="float32", device="cpu")


@pytest.mark.parametrize("name", bench.PATCH_SETS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_patch_set_agrees_and_is_timed(name: str, dtype: str) -> None:
    workload = Workload(**vars(TINY) | {"dtype": dtype})
    row = measure(workload, bench.PATCH_SETS[name], compiled=False)
    assert "error" not in row
    assert row["tokens_per_second"] == pytest.approx(2 * 16 / (row["step_ms"] / 1e3))
    assert math.isfinite(row["peak_memory_mb"])


def test_shapes_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Workload] = []

    def kept(workload: Workload, patches: list[str], compiled: bool) -> dict[str, Any]:
        seen.append(workload)
        return {"error": "not run"}

    monkeypatch.setattr(bench, "in_a_process", kept)
    words = ["patches", "--model", "tiny", "--context", "16", "--batch", "2", "--steps", "1"]
    assert main(["bench", *words, "n_embd=60", "n_head=5", "vocab_size=997", "n_inner=70"]) == 0
    made = make_model(seen[0])
    assert made.transformer.h[0].mlp.c_fc.weight.shape == (60, 70)
    assert made.lm_head.weight.shape == (997, 60) and made.config.n_head == 5
    row = measure(seen[0], bench.PATCH_SETS["all patches"], compiled=False)
    assert "error" not in row


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("n_embed=60", "n_embed: no such key in GPT2Config; did you mean n_embd?"),
        ("n_embd=wide", "n_embd: 'wide' is not"),
        ("n_layer=0", "n_layer: 0 is not positive"),
        ("n_positions=9", "n_positions: follows from --context"),
        ("max_position_embeddings=9", "max_position_embeddings: follows from --context"),
        ("n_embd=61 n_head=5", "n_embd: 61 is no multiple of n_head 5; try 65"),
        ("--model tiny n_head=5", "n_embd: 32 is no multiple of n_head 5; try 35"),
        ("hidden_size=0", "hidden_size: 0 is not positive"),
        ("attn_pdrop=0.1", "attn_pdrop: 0.1 is not 0: what is drawn differs"),
        ("resid_pdrop=0.1", "resid_pdrop: 0.1 is not 0"),
        ("embd_pdrop=0.1", "embd_pdrop: 0.1 is not 0"),
        ("dtype=bfloat16", "dtype: weights are trained in float32; --dtype says"),
        ("n_embd", "n_embd: is no KEY=VALUE"),
    ],
)
def test_keys_that_the_model_does_not_take_are_refused(
    word: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "patches", *word.split()]) == 2
    assert message in capsys.readouterr().err


def test_all_patches_are_those_that_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: dict[str, dict[str, Any]] = {}

    def here(workload: Workload, patches: list[str], compiled: bool) -> dict[str, Any]:
        try:
            row = measure(workload, patches, compiled)
        except UserError as error:
            row = {"error": str(error)}
        return rows.setdefault("+".join(patches), row)

    monkeypatch.setattr(bench, "in_a_process", here)
    words = ["--model", "tiny", "--context", "16", "--batch", "2", "--steps", "1", "--no-compile"]
    assert main(["bench", "patches", *words, "activation_function=gelu", "attn_pdrop=0.0"]) == 0
    said = capsys.readouterr().out
    assert "all patches without gelu: " in said
    last = json.loads(said.splitlines()[-1])["rows"][-1]
    assert last["patches"] == ["attention", "layer_norm", "fused_head_loss"]
    assert "error" in rows["gelu"] and "error" not in rows["attention+layer_norm+fused_head_loss"]
    assert bench.fitting_patches(TINY, bench.PATCH_SETS["all patches"]) == list(PATCHES)


def test_what_disagrees_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmkit.patches.gelu.gelu", torch.relu)
    row = measure(TINY, ["gelu"], compiled=False)
    assert "disagrees with stock" in row["error"] and "step_ms" not in row


def test_the_table_and_its_json_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fake(workload: Workload, patches: list[str], compiled: bool) -> dict[str, Any]:
        if patches == ["gelu"]:
            return {"error": "disagrees with stock: 1.0e+00, bound 2.0e-05"}
        step = 100.0 - 10 * len(patches) - 20 * compiled
        return {
            "step_ms": step, "tokens_per_second": 1e3 / step, "peak_memory_mb": 1.0,
            "gradient_error": 1e-7, "stock_gradient_error": 1e-7,
        }  # fmt: skip

    monkeypatch.setattr(bench, "in_a_process", fake)
    monkeypatch.setattr("shutil.which", lambda name: None)
    bench.bench_patches(size="tiny", batch=1, context=8)
    said = capsys.readouterr().out
    assert "compiled variants left out" in said and "disagrees with stock" in said
    record = json.loads(said.splitlines()[-1])
    assert [row["variant"] for row in record["rows"]] == list(bench.PATCH_SETS)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/g++")
    rows = bench.bench_patches(size="tiny", batch=1, context=8)
    assert [row["variant"] for row in rows[-2:]] == ["stock, compiled", "all patches, compiled"]
    assert "2.50" in capsys.readouterr().out.splitlines()[-2]  # 100 ms against 40 ms


def test_wrong_settings_are_refused() -> None:
    for settings, message in (
        ({"size": "125m"}, "no size '125m'"),
        ({"dtype": "half"}, "neither float32 nor bfloat16"),
        ({"batch": 0}, "not positive"),
    ):
        with pytest.raises(UserError, match=message):
            bench.bench_patches(**settings)


@pytest.mark.slow
def test_a_process_of_its_own_answers() -> None:
    row = bench.in_a_process(TINY, ["fused_head_loss"], False)
    assert row["tokens_per_second"] > 0
    far = Workload(**vars(TINY) | {"device": "meta"})
    assert "error" in bench.in_a_process(far, [], False)
