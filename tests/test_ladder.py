"""The runner: what runs, what is skipped and why, and what survives a kill."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import fake_stages
import pytest
from fake_stages import climb

from llmkit import ladder
from llmkit.errors import GateError, Stopped, UserError
from llmkit.ladder import run
from llmkit.recipe import Recipe

TESTS = Path(__file__).parent


def in_subprocess(folder: Path, interrupt: str = "", count: int = 5) -> subprocess.CompletedProcess:
    script = f"""
        import sys, fake_stages
        from pathlib import Path
        from llmkit.errors import LlmkitError
        from llmkit.ladder import run
        folder = Path({str(folder)!r})
        try:
            run(fake_stages.recipe(folder, {{"count": {count}}}), output_dir=folder)
        except LlmkitError as error:
            print(error, file=sys.stderr)
            sys.exit(error.exit_status)
    """
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | {"PYTHONPATH": path, "INTERRUPT": interrupt or "::"},
        capture_output=True,
        text=True,
        check=False,
    )


def bytes_of(stage: Path) -> dict[str, str]:
    """SHA-256 of every file of a finished stage but its record and its logs."""
    return {
        str(path.relative_to(stage)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in stage.rglob("*")
        if path.is_file() and path.name != "stage.json" and "logs" not in path.parts
    }


def test_first_run_makes_every_stage_in_order(tmp_path: Path) -> None:
    assert climb(tmp_path, seed=7) == ["words", "shout"]
    assert (tmp_path / "tiny/words/words.txt").read_text() == "a 0 7\na 1 7\na 2 7\n"
    assert (tmp_path / "tiny/shout/upper.txt").read_text() == "A 0 7\nA 1 7\nA 2 7\n"
    assert not list((tmp_path / "tiny").glob(".*.partial"))


def test_record_says_what_made_the_stage(tmp_path: Path) -> None:
    climb(tmp_path, words={"count": 2})
    record = json.loads((tmp_path / "tiny/words/stage.json").read_text())
    assert record["kind"] == "words" and record["seed"] == 0
    assert record["parts"]["stage"]["count"] == 2
    assert record["parts"]["world"] == {"people": 10}
    assert set(record["versions"]) == {"python", "llmkit", "tqdm"}
    assert record["metrics"] == {"words": 2, "loss": 1.23456}
    assert record["gates"] == [
        {"gate": "counted", "passed": True, "measured": 2, "bound": "at least 0"}
    ]
    assert record["hardware"]["cores"] >= 1 and record["seconds"] >= 0
    child = json.loads((tmp_path / "tiny/shout/stage.json").read_text())
    assert child["parents"] == ["words"]
    content = (tmp_path / "tiny/words/words.txt").read_bytes()
    lines = f"{hashlib.sha256(content).hexdigest()}  words.txt\n"
    assert child["parts"]["parents"]["words"] == hashlib.sha256(lines.encode()).hexdigest()


def test_a_run_ends_with_its_table_and_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(fake_stages.recipe(tmp_path), output_dir=tmp_path)
    page = tmp_path / "tiny" / "report.html"
    *_, before, last = capsys.readouterr().out.splitlines()
    assert (before, last) == ("", f"report: {page}")  # nothing to chat with: no line about it
    assert "<title>tiny" in page.read_text()


def test_unchanged_run_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    climb(tmp_path)
    before = (tmp_path / "tiny/words/stage.json").read_text()
    capsys.readouterr()
    assert climb(tmp_path) == []
    said = capsys.readouterr().out
    assert "[1/2] words: skipped: nothing changed\n" in said
    assert "[2/2] shout: skipped: nothing changed\n" in said
    assert (tmp_path / "tiny/words/stage.json").read_text() == before


def test_child_of_a_parent_remade_with_the_same_bytes_is_skipped(tmp_path: Path) -> None:
    climb(tmp_path)
    assert climb(tmp_path, only="words", force=True) == ["words"]
    assert climb(tmp_path) == []


def test_force_runs_all_of_the_span(tmp_path: Path) -> None:
    climb(tmp_path)
    assert climb(tmp_path, force=True) == ["words", "shout"]


def test_stage_edited_by_hand_is_refused_until_it_is_made_again(tmp_path: Path) -> None:
    climb(tmp_path)
    (tmp_path / "tiny/shout/upper.txt").write_text("mine")
    with pytest.raises(UserError, match=r"upper\.txt was changed.*--only shout --force"):
        climb(tmp_path)
    assert climb(tmp_path, only="shout", force=True) == ["shout"]
    assert climb(tmp_path) == []


def test_edit_is_found_before_an_earlier_stage_runs(tmp_path: Path) -> None:
    def two(count: int) -> Recipe:
        stages = {"one": fake_stages.Words(count=count), "two": fake_stages.Words()}
        kinds = {"one": "words", "two": "words"}
        references: dict[str, dict[str, str | Path]] = {"one": {}, "two": {}}
        recipe = fake_stages.recipe(tmp_path)
        return replace(recipe, stages=stages, kinds=kinds, references=references)

    run(two(3), output_dir=tmp_path)
    (tmp_path / "tiny/two/words.txt").write_text("mine")
    fake_stages.RUNS.clear()
    with pytest.raises(UserError, match=r"words\.txt was changed"):
        run(two(4), output_dir=tmp_path)
    assert fake_stages.RUNS == []


def test_parent_edited_by_hand_is_not_read(tmp_path: Path) -> None:
    climb(tmp_path)
    (tmp_path / "tiny/words/words.txt").write_text("mine")
    with pytest.raises(UserError, match=r"words\.txt was changed.*--only words --force"):
        climb(tmp_path, only="shout", force=True)


def test_span_selects(tmp_path: Path) -> None:
    assert climb(tmp_path, to="words") == ["words"]
    assert climb(tmp_path, from_="shout", to="shout") == ["shout"]
    assert climb(tmp_path, from_="words", force=True) == ["words", "shout"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": "shot"}, "--only: tiny has no stage shot.*did you mean shout"),
        ({"from_": "shout", "to": "words"}, "--from: shout comes after words"),
        ({"only": "words", "to": "shout"}, "--only: cannot stand beside"),
        ({"only": "shout"}, "shout: needs words, which is not finished; .*--from words --to shout"),
    ],
)
def test_impossible_span_is_one_clear_error(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        climb(tmp_path, **options)
    assert fake_stages.RUNS == []


def test_what_is_missing_far_below_is_in_the_remedy(tmp_path: Path) -> None:
    stages = {
        "words": fake_stages.Words(),
        "one": fake_stages.Upper(documents="words"),
        "aside": fake_stages.Words(),
        "two": fake_stages.Upper(documents="one"),
    }
    kinds = {"words": "words", "one": "upper", "aside": "words", "two": "upper"}
    references = {"words": {}, "one": {"words": "words"}, "aside": {}, "two": {"one": "one"}}
    recipe = fake_stages.recipe(tmp_path)
    recipe = replace(recipe, stages=stages, kinds=kinds, references=references)
    with pytest.raises(UserError, match="needs one, .*--from words --to two"):
        run(recipe, output_dir=tmp_path, only="two")
    run(recipe, output_dir=tmp_path, to="words")
    with pytest.raises(UserError, match="needs one, .*--from one --to two"):
        run(recipe, output_dir=tmp_path, only="two")


def test_stage_outside_the_span_with_other_settings_is_refused(tmp_path: Path) -> None:
    climb(tmp_path)
    with pytest.raises(UserError, match="needs words, .* other settings: count 3 -> 9"):
        climb(tmp_path, words={"count": 9}, only="shout", force=True)


@pytest.mark.parametrize("line", [0, 2, 4])
def test_killed_stage_goes_on_and_ends_in_the_same_bytes(tmp_path: Path, line: int) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert in_subprocess(whole).returncode == 0
    assert in_subprocess(killed, f"words:{line}:kill").returncode == -signal.SIGKILL
    assert not (killed / "tiny/words").exists()
    again = in_subprocess(killed)
    assert again.returncode == 0, again.stderr
    assert "[1/2] words: goes on where it stopped\n" in again.stdout
    for stage in ("words", "shout"):
        assert bytes_of(killed / "tiny" / stage) == bytes_of(whole / "tiny" / stage)
    tries = (killed / "tiny/words/logs/tries.txt").read_text().split()
    assert tries == ["0", "1", "2", "3", "4"]  # no line was made twice


def test_unfinished_work_of_other_settings_is_thrown_away(tmp_path: Path) -> None:
    in_subprocess(tmp_path, "words:2:kill", count=4)
    again = in_subprocess(tmp_path, count=5)
    assert "words: what was unfinished is thrown away: count 4 -> 5\n" in again.stdout
    tries = (tmp_path / "tiny/words/logs/tries.txt").read_text().split()
    assert tries == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("again", [True, False])
def test_forced_stage_that_was_stopped_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    again: bool,
) -> None:
    climb(tmp_path)
    monkeypatch.setenv("INTERRUPT", "words:1:ctrl_c")
    with pytest.raises(Stopped):
        climb(tmp_path, force=True)
    monkeypatch.delenv("INTERRUPT")
    capsys.readouterr()
    assert climb(tmp_path, force=again) == (["words", "shout"] if again else ["words"])
    assert "[1/2] words: goes on where it stopped" in capsys.readouterr().out
    tries = (tmp_path / "tiny/words/logs/tries.txt").read_text().split()
    assert tries == ["0", "1", "2"]  # no line was made twice
    assert climb(tmp_path) == []


def test_gate_that_fails_at_the_end_costs_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATE", "fails")
    with pytest.raises(GateError, match="gate counted"):
        climb(tmp_path)
    assert climb(tmp_path, words={"gates": "warn"}) == ["words", "shout"]
    assert "[1/2] words: goes on where it stopped\n" in capsys.readouterr().out
    tries = (tmp_path / "tiny/words/logs/tries.txt").read_text().split()
    assert tries == ["0", "1", "2"]
    assert climb(tmp_path, words={"gates": "warn"}) == []
    # What a warning let through is not passed over in silence when the recipe says stop again.
    with pytest.raises(GateError, match="words was finished under `gates: warn`"):
        climb(tmp_path)
    with pytest.raises(GateError, match="words was finished under `gates: warn`"):
        climb(tmp_path, only="shout", force=True)


def test_failed_stage_leaves_the_finished_ones_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    climb(tmp_path)
    before = bytes_of(tmp_path / "tiny/words")
    monkeypatch.setenv("INTERRUPT", "words:1:bug")
    with pytest.raises(ZeroDivisionError):
        climb(tmp_path, words={"count": 4})
    monkeypatch.delenv("INTERRUPT")
    assert bytes_of(tmp_path / "tiny/words") == before
    assert climb(tmp_path) == []


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    script = f"""
        import fake_stages
        from pathlib import Path
        from llmkit.ladder import run
        run(fake_stages.recipe(Path({str(tmp_path)!r})), output_dir={str(tmp_path)!r})
    """
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    first = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | {"PYTHONPATH": path, "INTERRUPT": "words:1:pause"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None
    try:
        assert any("pausing" in line for line in iter(first.stdout.readline, ""))
        with pytest.raises(UserError, match=f"process {first.pid}"):
            climb(tmp_path)
    finally:
        first.kill()
        first.wait()
        first.stdout.close()
    assert climb(tmp_path) == ["words", "shout"]


def test_configs_of_all_stages_are_built_before_the_first_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[str] = []
    monkeypatch.setattr(fake_stages.Upper, "prepare", lambda self, name: prepared.append(name))
    with pytest.raises(UserError, match="words: count must not be negative"):
        climb(tmp_path, words={"count": -1})
    climb(tmp_path)
    assert prepared == ["shout"]
    climb(tmp_path)  # nothing runs, so nothing is built
    assert prepared == ["shout"]


def test_a_profile_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """To try a recipe under `smoke` must not cost the stages of a full run, nor the other way."""
    climb(tmp_path)
    before = bytes_of(tmp_path / "tiny/words")
    small = replace(fake_stages.recipe(tmp_path, {"count": 1}), profile="smoke")
    run(small, output_dir=tmp_path)
    assert bytes_of(tmp_path / "tiny/words") == before
    assert (tmp_path / "tiny-smoke/words/words.txt").read_text() == "a 0 0\n"
    assert climb(tmp_path) == []
    named = replace(fake_stages.recipe(tmp_path), name="tiny-smoke")
    with pytest.raises(UserError, match=r"tiny-smoke: holds a run of .* tiny under profile smoke"):
        run(named, output_dir=tmp_path)


def test_a_broken_run_record_is_written_anew(tmp_path: Path) -> None:
    climb(tmp_path)
    (tmp_path / "tiny/run.json").write_text("{")
    assert climb(tmp_path) == []
    assert json.loads((tmp_path / "tiny/run.json").read_text())["recipe"] == "tiny"


def test_a_run_says_how_it_is_made_again(tmp_path: Path) -> None:
    climb(tmp_path)
    record = json.loads((tmp_path / "tiny/run.json").read_text())
    assert record["command"] == f"tiny --output-dir {tmp_path}" and record["profile"] is None
    with pytest.raises(UserError, match=r"there is no run in tiny-smok .*did you mean tiny\?"):
        ladder.Run.open("tiny-smok", tmp_path)


def test_second_run_imports_no_torch(tmp_path: Path) -> None:
    climb(tmp_path)
    script = (
        "import sys, fake_stages; from pathlib import Path; from llmkit.ladder import run\n"
        f"run(fake_stages.recipe(Path({str(tmp_path)!r})), output_dir={str(tmp_path)!r})\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'numpy'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    command = [sys.executable, "-c", script]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=True)


def test_remedies_can_be_pasted(tmp_path: Path) -> None:
    said = ladder.spoken("my recipe.yaml", {"sft.lr": 0.1}, "smoke", tmp_path)
    assert said == f"'my recipe.yaml' sft.lr=0.1 --profile smoke --output-dir {tmp_path}"
    assert ladder.spoken("small", "seed=1", None, None) == "small seed=1"
