"""Only whole checkpoints are used: each way of breaking one makes the one before it the newest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from llmkit.trainers.checkpoints import (
    MANIFEST,
    SealCheckpoints,
    fault,
    is_complete,
    newest_whole_checkpoint,
    write_manifest,
)


def checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    (path / "inner").mkdir(parents=True)
    (path / "model.safetensors").write_bytes(bytes(range(256)) * step)
    (path / "inner" / "optimizer.pt").write_bytes(b"optimizer")
    state = {"global_step": step, "max_steps": 100}
    (path / "trainer_state.json").write_text(json.dumps(state))
    return path


def test_the_manifest_holds_the_digest_of_every_file(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 5)
    write_manifest(path)
    digests = json.loads((path / MANIFEST).read_text())
    assert set(digests) == {"model.safetensors", "inner/optimizer.pt", "trainer_state.json"}
    assert digests["inner/optimizer.pt"] == hashlib.sha256(b"optimizer").hexdigest()
    assert fault(path) is None


def truncate(path: Path) -> None:
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    weights = path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[100] ^= 1
    weights.write_bytes(data)


BREAKAGES: dict[str, Callable[[Path], object]] = {
    "truncated": truncate,
    "bit": flip_a_bit,
    "missing": lambda path: (path / "inner" / "optimizer.pt").unlink(),
    "unfinished": lambda path: (path / MANIFEST).unlink(),
    "manifest": lambda path: (path / MANIFEST).write_text('{"model'),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_checkpoint_is_removed_and_the_one_before_taken(
    breakage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (8, 9, 10):
        write_manifest(checkpoint(tmp_path, step))
    BREAKAGES[breakage](tmp_path / "checkpoint-10")
    assert newest_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-9"
    assert "checkpoint-10 is left out" in caplog.text
    assert not (tmp_path / "checkpoint-10").exists()


def test_nothing_whole_means_from_the_start(tmp_path: Path) -> None:
    assert newest_whole_checkpoint(tmp_path / "absent") is None
    checkpoint(tmp_path, 3)
    assert newest_whole_checkpoint(tmp_path) is None


def test_numbers_are_compared_as_numbers(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        write_manifest(checkpoint(tmp_path, step))
    assert newest_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-100"
    assert is_complete(tmp_path / "checkpoint-100") and not is_complete(tmp_path / "checkpoint-10")


@pytest.mark.parametrize("keep", [1, 2, None])
def test_the_oldest_go_once_the_new_one_is_sealed_but_not_the_best(
    keep: int | None, tmp_path: Path
) -> None:
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    seal = SealCheckpoints(keep)
    best = str(tmp_path / "checkpoint-1")
    for step in (1, 2, 3, 4):
        checkpoint(tmp_path, step)
        state = TrainerState(global_step=step, best_model_checkpoint=best)
        seal.on_save(args, state, TrainerControl())
    left = {int(path.name.split("-")[1]) for path in tmp_path.iterdir()}
    assert left == {1: {1, 4}, 2: {1, 3, 4}, None: {1, 2, 3, 4}}[keep]
    assert fault(tmp_path / "checkpoint-4") is None
