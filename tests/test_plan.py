"""`llmkit plan`: published runs come out, the rest says what it does not know, nothing is heavy."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from plans import HEAD, LADDER, gpt2, planned

from llmkit.cost.hardware import GIB
from llmkit.cost.speed import PUBLISHED, Published
from llmkit.errors import RecipeError, UserError
from llmkit.planning.table import count, duration, money


@pytest.mark.parametrize("run", PUBLISHED, ids=lambda run: run.name)
def test_a_published_run_comes_out_at_its_own_speed(run: Published, tmp_path: Path) -> None:
    """Hours and dollars as llm.c's scripts tell them; they round $22.0 of 124M to "~$20"."""
    stages = gpt2(
        run.layers,
        run.width,
        run.heads,
        f"    tokens_per_step: {run.tokens_per_step}\n",
        f", max_steps: {run.steps}",
    )
    found = planned(tmp_path, stages, str(run.hardware), price=run.dollars_an_hour / run.gpus)
    stage = found["pretrain"]
    assert stage.tokens == run.steps * run.tokens_per_step
    assert stage.hours == pytest.approx(run.hours, rel=0.10)
    assert run.dollars == pytest.approx(stage.dollars, rel=0.10)
    assert found.hours == stage.hours and found.dollars == stage.dollars
    assert run.source in found.table()


def test_a_measured_speed_or_mfu_counts_before_any_other(tmp_path: Path) -> None:
    stages = gpt2(12, 768, 12, "    tokens_per_step: 524288\n", ", max_steps: 1000")
    slow = planned(tmp_path, stages, tokens_per_second=524288)["pretrain"]
    assert slow.hours == pytest.approx(1000 / 3600)
    half = planned(tmp_path, stages, mfu=0.281)["pretrain"]
    full = planned(tmp_path, stages)["pretrain"]
    assert half.hours == pytest.approx(2 * full.hours, rel=0.01)


def test_what_does_not_fit_is_said_with_what_would(tmp_path: Path) -> None:
    stages = gpt2(48, 1600, 25, "    tokens_per_step: 1048576\n", ", max_steps: 10")
    found = planned(tmp_path, stages, "8x4090")
    stage = found["pretrain"]
    assert stage.fits is False and stage.memory.peak > 24 * GIB
    told = found.table()
    assert "DOES NOT FIT" in told and "a 4090 has 22.1 GiB to give" in told
    ways = [note for note in stage.notes if note.startswith("would fit: ")]
    assert any("fsdp2.yaml" in way for way in ways)
    assert not any("args.per_device_train_batch_size: 1" == way for way in ways)
    # Each of them does fit, planned by itself.
    one = next(way for way in ways if "x" in way).removeprefix("would fit: ")
    assert planned(tmp_path, stages, one)["pretrain"].fits


def test_steps_follow_from_the_ranks(tmp_path: Path) -> None:
    """16 rows x 1,024 tokens on 8 ranks are 131,072 a pass: four of them, or one on 32."""
    stages = gpt2(12, 768, 12, "    tokens_per_step: 524288\n", ", max_steps: 10")
    for hardware in ("A100", "8xA100", "32xA100"):
        assert planned(tmp_path, stages, hardware)["pretrain"].tokens == 10 * 524288
    odd = planned(tmp_path, stages, "64xA100")["pretrain"]
    assert any("no multiple of the 1,048,576 of one pass" in note for note in odd.notes)


def test_every_stage_is_planned_or_says_why_not(tmp_path: Path) -> None:
    found = planned(tmp_path, gpt2(12, 768, 12) + LADDER, "A100", price=2.0)
    assert [stage.name for stage in found.stages][3:] == [
        "pretrain", "sft", "reward", "dpo", "ppo", "grpo", "evaluate",
    ]  # fmt: skip
    assert found["pretrain"].hours is None
    assert any("until args.max_steps" in note for note in found["pretrain"].notes)
    assert found["evaluate"].notes == ("time: not estimated",)
    assert found["curate"].notes == ("9 documents to curate at most", "time: not estimated")
    sft, dpo, ppo = found["sft"], found["dpo"], found["ppo"]
    assert sft.tokens == 10 * 8 * 512 and sft.parameters == 124_439_808
    assert dpo.tokens == 10 * 2 * 8 * 1024, "chosen and rejected, as long as the context at most"
    assert dpo.memory.weights == 2 * sft.memory.weights, "the reference is a second model"
    assert ppo.memory.optimizer == 2 * sft.memory.optimizer, "the value model is trained too"
    assert ppo.memory.weights == 4 * sft.memory.weights
    # Two models trained, and half of three models' and the judge's forward passes, a third each.
    trained = 16 * 1024 * (2 + (3 + 1) / 2 / 3) / sft.speed.tokens_per_second
    assert ppo.hours * 3600 / 8 > trained
    assert found.dollars == pytest.approx(2.0 * found.hours)
    assert all("at most" in note for note in sft.notes)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"price": -1.0}, "--price"),
        ({"price": math.nan}, "--price"),
        ({"price": math.inf}, "--price"),
        ({"mfu": math.nan}, "--mfu"),
        ({"mfu": 1.2}, "--mfu"),
        ({"mfu": 0.5, "tokens_per_second": 9.0}, "--mfu"),
        ({"tokens_per_second": 0.0}, "--tokens-per-second"),
        ({"tokens_per_second": math.nan}, "--tokens-per-second"),
        ({"tokens_per_second": math.inf}, "--tokens-per-second"),
    ],
)
def test_figures_out_of_range(given: dict[str, float], named: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=named):
        planned(tmp_path, "", **given)


def test_a_recipe_with_problems_is_refused_as_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such key in TrainingArguments"):
        planned(tmp_path, "  pretrain: {args: {lerning_rate: 1}}\n")


def test_a_models_sizes_are_known_by_its_folder_or_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"model_type": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 2, "vocab_size": 100}
    (folder / "config.json").write_text(json.dumps(config))
    stage = "  {name}: {{stage: sft, model: {model}, dataset: [{{tinyworld: conversations}}]}}\n"
    stages = stage.format(name="one", model=folder)
    stages += stage.format(name="two", model="openai-community/gpt2-xl")
    stages += stage.format(name="three", model="nobody/nothing")
    found = planned(tmp_path, stages)
    assert found["one"].parameters == 100 * 64 + 1024 * 64 + 2 * (12 * 64**2 + 13 * 64) + 128
    assert found["two"].parameters == 1_557_611_200
    assert found["three"].notes == ("its model's sizes are not known before it runs",)


def test_float32_and_a_gpu_without_bfloat16_are_told(tmp_path: Path) -> None:
    stages = gpt2(12, 768, 12, "", ", max_steps: 10")
    assert any("no bfloat16" in n for n in planned(tmp_path, stages, "T4")["pretrain"].notes)
    plain = planned(tmp_path, stages.replace("bf16: true", "bf16: false"), "A100")["pretrain"]
    assert plain.hours is None and any("float32" in note for note in plain.notes)


def test_the_command_imports_no_torch_and_prints_json(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(HEAD + gpt2(12, 768, 12, "", ", max_steps: 10"))
    code = (
        "import sys; from llmkit.cli import main\n"
        "status = main(['plan', 'r.yaml', '--hardware', 'H100', '--price', '3', '--json'])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'trl', 'peft'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else status)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["hardware"] == "1xH100" and found["price"] == 3
    (stage,) = (stage for stage in found["stages"] if stage["name"] == "pretrain")
    assert stage["parameters"] == 124_439_808 and stage["memory"]["weights"] == 4 * 124_439_808


def test_words_for_figures() -> None:
    assert [count(v) for v in (None, 950, 1000, 124_439_808, 9_890_693_120, 3.4e20)] == [
        "-", "950", "1k", "124M", "9.89B", "3.4e+08T",
    ]  # fmt: skip
    assert [duration(v) for v in (0.01, 94.3 / 60, 13.67, 135.1)] == [
        "36 s", "94 min", "13.7 h", "5.6 d",
    ]  # fmt: skip
    assert [money(v) for v in (None, 0.417, 22.009, 1891.4)] == ["-", "$0.42", "$22.0", "$1,891"]
