"""The Python API: what `import llmkit` gives, and what a run gives back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import fake_stages
import pytest

import llmkit
from llmkit.errors import InputError, UserError
from llmkit.results import Run, model_of
from llmkit.stages import STAGES

REPOSITORY = Path(__file__).parent.parent

RECIPE = """
name: tiny
seed: 3
stages:
  words: {count: 2}
  shout: {stage: upper}
profiles:
  smoke: {words.count: 1}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a recipe of the fake stages, in the current folder."""
    for kind, target in fake_stages.STAGES.items():
        monkeypatch.setitem(STAGES, kind, target)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def test_import_is_light_and_exports_are_lazy() -> None:
    script = (
        "import sys, llmkit\n"
        "assert [n for n in sys.modules if n.startswith('llmkit.')] == [], sys.modules\n"
        "llmkit.run, llmkit.Recipe\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'numpy'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


def test_unknown_export_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        _ = llmkit.train  # type: ignore[attr-defined]


def test_version_is_the_packages() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project.get("version", llmkit.__version__) == llmkit.__version__


def test_run_takes_path_overrides_and_profile(recipe: Path) -> None:
    run = llmkit.run(recipe, overrides={"seed": 1})
    assert (run.folder / "words/words.txt").read_text() == "a 0 1\na 1 1\n"
    assert run.folder == Path("runs/tiny")
    assert run["words"].metrics == {"words": 2, "loss": 1.23456}
    assert run["shout"].folder == Path("runs/tiny/shout")
    assert run["shout"].stage_json["parents"] == ["words"]
    assert list(run) == ["words", "shout"] and "words" in run and "sft" not in run
    smoke = llmkit.run(str(recipe), overrides=["seed=2"], profile="smoke", output_dir="other")
    assert (smoke.folder / "words/words.txt").read_text() == "a 0 2\n"


def test_run_takes_a_loaded_recipe_but_no_changes_to_it(recipe: Path) -> None:
    loaded = llmkit.Recipe.load(recipe, {"words.count": 3})
    assert llmkit.run(loaded)["words"].metrics["words"] == 3
    with pytest.raises(UserError, match=r"loaded already; give overrides to Recipe\.load"):
        llmkit.run(loaded, overrides={"seed": 1})


def test_unknown_stage_of_a_run_names_the_near_one(recipe: Path) -> None:
    run = llmkit.run(recipe)
    with pytest.raises(UserError, match=r"no finished stage word .*did you mean words\?"):
        run["word"]


def test_run_is_opened_by_name_or_folder(recipe: Path, tmp_path: Path) -> None:
    made = llmkit.run(recipe)
    assert Run.open("tiny").folder == made.folder
    assert Run.open(tmp_path / "runs/tiny")["words"].metrics == made["words"].metrics
    with pytest.raises(InputError, match="no run in tinny and runs/tinny; did you mean tiny"):
        Run.open("tinny")


def test_model_of_a_run_its_stage_a_folder_or_the_hub(recipe: Path, tmp_path: Path) -> None:
    llmkit.run(recipe)
    assert model_of("tiny:shout") == Path("runs/tiny/shout")
    assert model_of("runs/tiny/shout") == Path("runs/tiny/shout")
    assert model_of("openai-community/gpt2") == "openai-community/gpt2"
    with pytest.raises(InputError, match="tiny/words: holds no model: the stage is a `words`"):
        model_of("tiny:words")
    with pytest.raises(UserError, match=r"learnt conversations; name a stage: tiny:STAGE"):
        model_of("tiny")
    record = tmp_path / "runs/tiny/shout/stage.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"kind": "sft"}))
    assert model_of("tiny") == Path("runs/tiny/shout")


@pytest.mark.slow
def test_accelerate_launch_with_one_process(tmp_path: Path) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        "name: small\nworld: {people: 20}\nstages:\n"
        "  curate: {sources: [{tinyworld: {num_documents: 60}}]}\n"
        "  tokenizer: {vocab_size: 300}\n"
    )
    config = REPOSITORY / "accelerate_configs" / "cpu.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    command += ["-m", "llmkit", "run", str(recipe), "--output-dir", str(tmp_path / "runs")]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("[1/2] curate") == 1
    assert (tmp_path / "runs/small/tokenizer/tokenizer.json").is_file()
