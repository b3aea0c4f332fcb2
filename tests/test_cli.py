"""The command line as its user meets it: words, exit statuses, and no torch where none is due."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llmkit.cli import COMMANDS, main
from llmkit.recipe import Recipe

BAD = "sed: 1\nstages:\n  tokenizer: {vocab_sise: 5}\n  sft: {model: tokenizer}\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)


def test_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rnu"]) == 2
    assert "did you mean run?" in capsys.readouterr().err


def test_check_tells_all_problems_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(BAD)
    for command in ("check", "run", "show"):
        assert main([command, "bad.yaml"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 4
        assert "bad.yaml:3: tokenizer.vocab_sise: no such key" in lines[1]
    assert [file.name for file in tmp_path.iterdir()] == ["bad.yaml"]


def test_check_tells_the_problems_of_every_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(
        "stages:\n  curate: {sources: [{tinyworld: {num_documents: 9}}]}\n"
        "  tokenizer: {vocab_size: 300}\n"
        "profiles:\n  one: {tokenizer.vocab_size: 400}\n  two: {tokenizer.vocab_size: many}\n"
    )
    assert main(["check", "r.yaml"]) == 2
    told = "r.yaml:6: tokenizer.vocab_size: must be a whole number or nothing, not the text 'many'"
    assert told in capsys.readouterr().err
    assert main(["check", "r.yaml", "--profile", "one"]) == 0


def test_a_missing_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "quickstrat"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("llmkit: quickstrat: no such recipe; did you mean quickstart?")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["chat", "x", "--temperature", "-1"], "--temperature: -1.0 is negative"),
        (["chat", "x", "--max-new-tokens", "0"], "--max-new-tokens: 0 is not positive"),
        (["chat", "x"], "x: there is no run in x and runs/x; make one: llmkit run x"),
    ],
)
def test_options_out_of_range_are_told(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"llmkit: {message}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "quickstart", "--profil", "smoke"], "unrecognized arguments: --profil smoke"),
        (["run"], "the following arguments are required: RECIPE\n"),
    ],
)
def test_options_are_not_guessed(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_debug_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "nowhere", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_fault_of_ours_is_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(options: object) -> None:
        """Break."""
        raise KeyError("inside")

    monkeypatch.setitem(COMMANDS, "check", (COMMANDS["check"][0], broken))
    assert main(["check", "quickstart"]) == 1
    err = capsys.readouterr().err
    assert "KeyError" in err
    assert "--debug" in err
    assert "Traceback" not in err


def test_show_prints_yaml_that_checks_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "quickstart", "seed=5", "--profile", "smoke"]) == 0
    shown = tmp_path / "shown.yaml"
    shown.write_text(capsys.readouterr().out)
    assert "seed: 5" in shown.read_text()
    assert list(Recipe.load(shown).stages) == list(Recipe.load("quickstart").stages)
    assert main(["check", str(shown)]) == 0


def test_options_may_stand_between_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["show", "quickstart", "seed=5", "--profile", "smoke", "pretrain.args.max_steps=3"])
        == 0
    )
    out = capsys.readouterr().out
    assert "seed: 5" in out
    assert "max_steps: 3" in out


def test_recipes_lists_the_shipped_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == sorted(names) and {"quickstart", "gpt2/124m", "gpt4-tokenizer"} <= set(names)


@pytest.mark.parametrize(
    "words", [["--help"], ["check", "quickstart"], ["show", "quickstart"], ["recipes"]]
)
def test_light_commands_import_no_heavy_library(words: list[str]) -> None:
    code = (
        "import sys; from llmkit.cli import main; status = main(sys.argv[1:]);"
        "heavy = {'torch', 'transformers', 'trl', 'peft', 'datasets', 'numpy', 'pyarrow'};"
        "found = heavy & set(sys.modules); sys.exit(str(found) if found else status)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_missing_file_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even one that only a late stage reads: nobody pretrains for a week to hear of it."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("Some words.")
    Path("late.yaml").write_text(
        "stages:\n"
        "  curate: {sources: [{path: text.txt}], steps: []}\n"
        "  tokenizer: {vocab_size: 300}\n"
        "  tokenize: {context_length: 8}\n"
        "  pretrain: {}\n"
        "  sft: {model: pretrain, dataset: [{path: absent.jsonl}]}\n"
    )
    assert main(["run", "late.yaml"]) == 2
    assert "absent.jsonl: no such file" in capsys.readouterr().err
    assert not Path("runs").exists()
