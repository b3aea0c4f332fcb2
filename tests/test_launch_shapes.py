"""Trainings whose model is spread over two processes end as those of one process do."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

import llmkit

TESTS = Path(__file__).parent
CONFIGS = TESTS.parent / "accelerate_configs"
RECIPE = """
name: spread
world: {seed: 0, people: 20}
stages:
  curate: {sources: [{tinyworld: {num_documents: 300}}]}
  tokenizer: {vocab_size: 400}
  tokenize: {context_length: 32}
  pretrain:
    config: {model_type: gpt2, n_layer: 2, n_head: 2, n_embd: 32}
    args: {max_steps: 2, per_device_train_batch_size: 4, bf16: false}
  further:
    stage: pretrain
    model: pretrain
    config: {resid_pdrop: 0.0, embd_pdrop: 0.0, attn_pdrop: 0.0}
    patches: auto
    tokens_per_step: 512
    args:
      max_steps: 12
      per_device_train_batch_size: 4
      learning_rate: 3e-3
      bf16: false
      use_cpu: false
      save_steps: 5
    samples: {prompts: [The], every: 6}
"""
UPPER = ("sft", "reward", "dpo", "grpo")


def launched(config: str, *words: str, **environment: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    launcher = Path(sys.executable).with_name("accelerate")
    shape = ["launch", "--config_file", str(CONFIGS / f"{config}.yaml"), "--num_processes", "2"]
    return subprocess.run(
        [str(launcher), *shape, str(TESTS / "as_on_gpus.py"), "run", *words],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.mark.slow
@pytest.mark.parametrize("config", ["fsdp2", "zero2", "zero3"])
def test_spread_training_equals_that_of_one_process(tmp_path: Path, config: str) -> None:
    if config.startswith("zero") and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    recipe = tmp_path / "spread.yaml"
    recipe.write_text(RECIPE)
    llmkit.run(recipe, {"further.args.use_cpu": True}, output_dir=tmp_path / "one")
    llmkit.run(recipe, output_dir=tmp_path / "two", to="pretrain")
    done = launched(config, str(recipe), "--output-dir", str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    folders = [tmp_path / name / "spread/further" for name in ("one", "two")]
    weights = [load_file(folder / "model.safetensors") for folder in folders]
    assert weights[0].keys() == weights[1].keys()  # tied weights lie there once
    for name, weight in weights[0].items():
        assert weights[1][name].dtype == weight.dtype
        assert (weights[1][name] - weight).abs().max() < 1e-4, name
    records = [json.loads((folder / "stage.json").read_text()) for folder in folders]
    one, two = (record["metrics"]["validation_loss"] for record in records)
    assert two == pytest.approx(one, abs=1e-4)
    assert records[1]["processes"] == 2
    assert (folders[1] / "logs/samples.jsonl").read_text().count("\n") == 2


@pytest.mark.slow
def test_upper_rungs_run_spread(tmp_path: Path) -> None:
    """By FSDP2; PPO, whose value model has to be whole, is refused at once."""
    gpus = [f"{stage}.args.use_cpu=false" for stage in ("pretrain", *UPPER)]
    words = ["quickstart", *gpus, "--profile", "smoke", "--output-dir", str(tmp_path)]
    done = launched("fsdp2", *words, "--to", "dpo")
    assert done.returncode == 0, done.stderr
    refused = launched("fsdp2", *words, "--only", "ppo")
    assert refused.returncode != 0 and "ppo: its value model is whole" in refused.stderr
    done = launched("fsdp2", *words, "--only", "grpo")
    assert done.returncode == 0, done.stderr
    for stage in UPPER:
        record = json.loads((tmp_path / f"quickstart-smoke/{stage}/stage.json").read_text())
        assert record["processes"] == 2
