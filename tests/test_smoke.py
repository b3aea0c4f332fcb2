"""Every shipped recipe runs to its end under `--profile smoke`, so that none can rot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmkit.recipe import Recipe, shipped_names

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
pytestmark = pytest.mark.slow

# Loads a trained folder as its user would, where llmkit cannot be imported.
PLAIN = """
import sys
sys.modules["llmkit"] = None
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
chat = [{"role": "user", "content": "Hello!"}]
ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
print(type(model).__name__, model.generate(**ids, max_new_tokens=4).shape[1])
"""


def llmkit(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "llmkit", *words]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", shipped_names())
def test_a_recipe_runs_and_is_skipped_when_it_runs_again(name: str, tmp_path: Path) -> None:
    words = [name, "--profile", "smoke"]
    if "data_dir" in Recipe.load(name).resolved.get("vars", {}):
        if not DATA.is_dir():
            pytest.skip(f"needs the real data at {DATA}")
        words.insert(1, f"data_dir={DATA}")
    done = llmkit("run", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    stages = list(Recipe.load(name).stages)
    run = tmp_path / "runs" / Recipe.load(name, profile="smoke").run_name
    assert all((run / stage / "stage.json").is_file() for stage in stages)
    assert not list(run.glob(".*.partial"))
    assert (run / "report.html").is_file()
    assert ("chat with it: llmkit chat" in done.stdout) is ("sft" in stages)
    again = llmkit("run", *words, cwd=tmp_path)
    assert again.stdout.count("skipped: nothing changed") == len(stages)
    models = [stage for stage in ("pretrain", "sft") if stage in stages]
    said = llmkit("chat", run.name, cwd=tmp_path)
    # Where nothing has learnt conversations, chat says so and asks for a stage by name.
    assert said.returncode == (0 if "sft" in stages else 2), said.stderr
    for stage in models:
        command = [sys.executable, "-c", PLAIN, str(run / stage)]
        plain = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert plain.stdout.startswith("GPT2LMHeadModel"), plain.stderr


def test_the_python_interface_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's lines as they stand there, under the smoke profile."""
    monkeypatch.chdir(tmp_path)
    import llmkit as package

    run = package.run("quickstart", overrides={"seed": 1}, profile="smoke")
    model = run["sft"].model()
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert run["sft"].metrics["steps"] == 2
    assert run.report().read_text(encoding="utf-8").startswith("<!")
    assert package.Recipe.load("quickstart").name == "quickstart"
    stock = dict(vars(model))
    with package.patched(model, ["fused_head_loss", "gelu"]):
        assert vars(model) != stock
    assert vars(model) == stock
