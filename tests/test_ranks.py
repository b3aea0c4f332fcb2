"""Several processes: one run, told once, whose training is the training of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_stages import climb
from safetensors.torch import load_file

import llmkit
from llmkit.errors import LlmkitError, UserError
from llmkit.ranks import ALONE, current, joined, promised
from llmkit.run_dir import digest_of

TESTS = Path(__file__).parent
RECIPE = """
name: two
world: {seed: 0, people: 20}
stages:
  curate: {sources: [{tinyworld: {num_documents: 300}}]}
  tokenizer: {vocab_size: 400}
  tokenize: {context_length: 32}
  pretrain:
    config: {model_type: gpt2, n_layer: 1, n_head: 2, n_embd: 32, embd_pdrop: 0, attn_pdrop: 0}
    tokens_per_step: 512
    args:
      max_steps: 12
      per_device_train_batch_size: 4
      learning_rate: 3e-3
      bf16: false
      logging_steps: 1
      save_steps: 5
"""


def launched(*command: str, processes: int = 2, **environment: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
    return subprocess.run(
        [*launcher, *command],
        env=os.environ | {"PYTHONPATH": path, "ACCELERATE_USE_CPU": "true"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("recipe") / "two.yaml"
    file.write_text(RECIPE)
    return file


@pytest.fixture(scope="module")
def two(recipe: Path) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The folder that two processes wrote, and what each of them saw."""
    done = launched(str(TESTS / "two_processes.py"), str(recipe), str(recipe.parent))
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((recipe.parent / f"{r}.json").read_text()) for r in (0, 1))
    return recipe.parent, first, second


def record(folder: Path, stage: str = "pretrain") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "two" / stage / "stage.json").read_text())
    return found


def test_two_processes_train_as_one_does(two: tuple[Path, Any, Any], tmp_path: Path) -> None:
    """Without dropout, whose masks each process draws for itself."""
    folder, quiet = two[0], {"pretrain.config.resid_pdrop": 0.0}
    llmkit.run(folder / "two.yaml", quiet, output_dir=tmp_path / "one")
    override = ["pretrain.config.resid_pdrop=0.0", "--output-dir", str(tmp_path / "two")]
    done = launched("-m", "llmkit", "run", str(folder / "two.yaml"), *override)
    assert done.returncode == 0, done.stderr
    weights = [
        load_file(tmp_path / name / "two/pretrain/model.safetensors") for name in ("one", "two")
    ]
    for name, weight in weights[0].items():
        assert (weights[1][name] - weight).abs().max() < 1e-4, name
    one, other = (record(tmp_path / name)["metrics"] for name in ("one", "two"))
    assert other["tokens"] == one["tokens"] == 12 * 512
    assert other["validation_loss"] == pytest.approx(one["validation_loss"], abs=1e-4)
    assert [record(tmp_path / name)["processes"] for name in ("one", "two")] == [1, 2]
    assert record(tmp_path / "two", "tokenize")["processes"] == 1


def test_one_process_speaks_and_all_return_the_run(two: tuple[Path, Any, Any]) -> None:
    _, first, second = two
    assert "[4/4] pretrain" in first["said"] and "report: " in first["said"]
    assert second["said"] == ""
    assert first["steps"] == second["steps"] == 12
    assert first["afterwards"] == second["afterwards"] == 1


def test_signal_to_one_process_stops_all_and_the_run_goes_on_to_the_same_bytes(
    two: tuple[Path, Any, Any],
) -> None:
    folder, first, second = two
    assert first["stopped"] == second["stopped"] == 128 + 15
    whole, stopped = record(folder / "whole"), record(folder / "stopped")
    assert stopped["resumed"] and not whole["resumed"]
    assert digest_of(stopped["artefacts"]) == digest_of(whole["artefacts"])


def test_what_befalls_one_is_raised_in_all(two: tuple[Path, Any, Any]) -> None:
    _, first, second = two
    assert "gate first_loss" in first["gate"] and first["gate"] == second["gate"]
    assert "needs tokenizer" in first["unfinished"]
    assert first["unfinished"] == second["unfinished"]


def test_after_an_error_of_one_alone_no_other_run_is_begun(two: tuple[Path, Any, Any]) -> None:
    _, first, second = two
    assert second["parted"] == "mine alone"
    assert "another process of the launch has gone" in first["parted"]
    for seen in (first, second):
        assert "an error parted these processes" in seen["refused"]


def test_what_cannot_be_shared_out_is_told_before_the_first_stage(
    tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(UserError, match="no multiple of 4 rows x 32 tokens x 3 processes"):
        llmkit.run(recipe, output_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_training_goes_on_with_as_many_processes_as_it_was_begun_by(
    two: tuple[Path, Any, Any],
) -> None:
    folder = two[0] / "whole"
    assert (folder / "two/.pretrain.partial").exists()  # what the gate stopped
    wild = {"pretrain.config.initializer_range": 3.0}
    before = (folder / "two/tokenize/stage.json").stat().st_mtime_ns
    with pytest.raises(UserError, match="begun by 2 processes, and now there are 1; launch 2"):
        llmkit.run(two[0] / "two.yaml", wild, force=True, output_dir=folder)
    assert (folder / "two/tokenize/stage.json").stat().st_mtime_ns == before  # told at once
    assert llmkit.run(two[0] / "two.yaml", output_dir=folder)["pretrain"].metrics["steps"] == 12


def test_errors_are_told_once(tmp_path: Path, recipe: Path) -> None:
    done = launched("-m", "llmkit", "run", str(recipe), "pretrain.args.lerning_rate=1")
    told = [line for line in done.stderr.splitlines() if "did you mean learning_rate" in line]
    assert done.returncode == 1 and len(told) == 1
    assert told[0].startswith("llmkit: ")


@pytest.mark.slow
def test_every_rung_runs_in_two_processes(tmp_path: Path) -> None:
    words = ["-m", "llmkit", "run", "quickstart", "--profile", "smoke", "--output-dir"]
    done = launched(*words, str(tmp_path))
    assert done.returncode == 0, done.stderr
    stages = json.loads((tmp_path / "quickstart-smoke/run.json").read_text())["stages"]
    records = {
        name: json.loads((tmp_path / "quickstart-smoke" / name / "stage.json").read_text())
        for name in stages
    }
    together = {name for name, found in records.items() if found["processes"] == 2}
    assert together == {"pretrain", "sft", "reward", "dpo", "ppo", "grpo"}


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2"}, "2 processes that would not know of each other"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "would not know of each other"),
        (
            {"WORLD_SIZE": "2", "ACCELERATE_USE_FSDP": "true", "ACCELERATE_USE_CPU": "true"},
            "FSDP on CPUs would be plain copies",
        ),
    ],
)
def test_processes_that_cannot_join_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    monkeypatch.setattr("llmkit.ranks._has_gpu", lambda: False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        climb(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_process_is_joined_with_nobody() -> None:
    assert promised({}) == promised({"WORLD_SIZE": "1"}) == 1
    with joined({"WORLD_SIZE": "1", "RANK": "0"}) as ranks:
        assert ranks is ALONE is current()
    assert (ALONE.told(3), ALONE.gathered("a"), ALONE.highest(2)) == (3, ["a"], 2)
    assert ALONE.by_the_first(lambda: 5) == 5
    ALONE.meet()


def test_error_of_the_first_process_stands_for_itself() -> None:
    with pytest.raises(LlmkitError, match="mine"), joined({}):
        raise LlmkitError("mine")
    assert current() is ALONE
