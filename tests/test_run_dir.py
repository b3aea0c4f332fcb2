"""A stage's folder stands there whole or not at all, and tells when it was touched."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmkit import run_dir
from llmkit.errors import InputError, LlmkitError, UserError
from llmkit.run_dir import StageFolder, digest_of, locked, write_json

REST = {"kind": "sft", "parts": {}, "input_files": {}, "metrics": {}, "seconds": 1.0}


def made(run: Path, text: str = "hello", key: str = "k") -> StageFolder:
    """A finished stage with three files that count and three that do not."""
    stage = StageFolder(run, "sft")
    stage.begin(key, {"seed": 0})
    fill(stage, text)
    stage.finish(REST | {"key": key})
    return stage


def fill(stage: StageFolder, text: str) -> None:
    files = ("model.bin", "sub/b.txt", "sub/a.txt", "logs/c.txt", "scratch/d.txt", ".cache/e")
    for name in files:
        path = stage.partial / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{text} {name}")


def test_record_lists_sha256_and_size_of_every_artefact(tmp_path: Path) -> None:
    stage = made(tmp_path)
    listed = json.loads((stage.path / "stage.json").read_text())["artefacts"]
    assert sorted(listed) == ["model.bin", "sub/a.txt", "sub/b.txt"]
    for name, entry in listed.items():
        content = f"hello {name}".encode()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["bytes"] == len(content)
        assert entry["mtime_ns"] == os.stat(stage.path / name).st_mtime_ns


def test_finishing_renames_and_removes_scratch(tmp_path: Path) -> None:
    stage = made(tmp_path)
    assert not stage.partial.exists() and not stage.replaced.exists()
    assert not (stage.path / "scratch").exists()
    assert (stage.path / "logs" / "c.txt").exists()


def test_digest_depends_on_names_and_contents_alone(tmp_path: Path) -> None:
    one, two = made(tmp_path / "1"), made(tmp_path / "2")
    other = made(tmp_path / "3", text="bye")
    digests = [digest_of((stage.record() or {})["artefacts"]) for stage in (one, two, other)]
    assert digests[0] == digests[1] != digests[2]
    lines = ""
    for name in ("model.bin", "sub/a.txt", "sub/b.txt"):
        lines += f"{hashlib.sha256(f'hello {name}'.encode()).hexdigest()}  {name}\n"
    assert digests[0] == hashlib.sha256(lines.encode()).hexdigest()


def test_former_stage_comes_back_when_its_successor_is_lost(tmp_path: Path) -> None:
    stage = made(tmp_path)
    os.rename(stage.path, stage.replaced)
    stage.recover()
    stage.verify(stage.record() or {})
    assert not stage.replaced.exists()


def test_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UserError, match=r"tiny: cannot be written .*--output-dir"):
        with locked(tmp_path / "runs" / "tiny"):
            pass


def test_copied_run_with_new_times_is_whole(tmp_path: Path) -> None:
    stage = made(tmp_path)
    os.utime(stage.path / "model.bin", ns=(1, 1))
    stage.verify(stage.record() or {})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda folder: (folder / "model.bin").write_text("HELLO model.bin"), "model.bin was ch"),
        (
            lambda folder: (folder / "model.bin").write_text("longer than it was"),
            "model.bin was ch",
        ),
        (lambda folder: (folder / "sub/a.txt").unlink(), "sub/a.txt is gone"),
        (lambda folder: (folder / "extra.txt").write_text("x"), "extra.txt was added"),
    ],
)
def test_change_by_hand_names_file_and_remedy(tmp_path: Path, change, named: str) -> None:
    stage = made(tmp_path)
    change(stage.path)
    with pytest.raises(UserError) as caught:
        stage.verify(stage.record() or {}, "quickstart")
    assert named in str(caught.value)
    assert "llmkit run quickstart --only sft --force" in str(caught.value)


def test_logs_may_change(tmp_path: Path) -> None:
    stage = made(tmp_path)
    (stage.path / "logs" / "c.txt").write_text("other")
    stage.verify(stage.record() or {})


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"key": "k"}', "\xff"])
def test_broken_record_is_one_clear_error(tmp_path: Path, text: str) -> None:
    stage = made(tmp_path)
    (stage.path / "stage.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"stage\.json: is broken.*--only sft --force"):
        stage.record()


def test_finished_folder_without_record_is_an_error(tmp_path: Path) -> None:
    stage = made(tmp_path)
    (stage.path / "stage.json").unlink()
    with pytest.raises(InputError, match=r"stage\.json: is missing"):
        stage.record()


def test_unfinished_folder_tells_its_key_and_keeps_scratch(tmp_path: Path) -> None:
    stage = StageFolder(tmp_path, "sft")
    stage.begin("k", {"seed": 0})
    fill(stage, "hello")
    assert (stage.unfinished() or {})["key"] == "k"
    assert stage.record() is None
    stage.recover()
    assert (stage.partial / "scratch" / "d.txt").exists()


def test_stage_that_wrote_nothing_is_our_fault(tmp_path: Path) -> None:
    stage = StageFolder(tmp_path, "sft")
    stage.begin("k", {})
    with pytest.raises(LlmkitError, match="wrote nothing"):
        stage.finish(REST | {"key": "k"})


class Killed(BaseException):
    """Stands for `kill -9` between two steps on the disk."""


@pytest.mark.parametrize("step", range(1, 16))
def test_kill_at_any_step_leaves_the_old_or_the_new_stage_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    made(tmp_path, text="old", key="old")
    stage = StageFolder(tmp_path, "sft")
    stage.begin("new", {})
    fill(stage, "new")
    steps = iter(range(1, 100))

    def killing(real):
        def call(*arguments: object, **named: object) -> object:
            if next(steps) == step:
                raise Killed
            return real(*arguments, **named)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(run_dir.os, "rename", killing(os.rename))
        patch.setattr(run_dir.os, "replace", killing(os.replace))
        patch.setattr(run_dir, "sync", killing(run_dir.sync))
        patch.setattr(run_dir.shutil, "rmtree", killing(run_dir.shutil.rmtree))
        try:
            stage.finish(REST | {"key": "new"})
            survived = True
        except Killed:
            survived = False
    stage.recover()
    record = stage.record() or {}
    stage.verify(record)
    assert not stage.replaced.exists()
    assert (stage.path / "model.bin").read_text() == f"{record['key']} model.bin"
    if survived or record["key"] == "new":
        assert not stage.partial.exists()
    else:
        assert (stage.partial / "scratch" / "d.txt").exists()


def test_write_json_leaves_no_half_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


HOLD = """
import sys, time
from pathlib import Path
from llmkit.run_dir import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_lock_keeps_a_second_process_out_and_dies_with_its_holder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"process {holder.pid}.*--output-dir"):
            with locked(tmp_path):
                pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with locked(tmp_path):
        pass
