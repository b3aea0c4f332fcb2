"""Checkpoints that are used only when whole.

`transformers.Trainer` writes straight into `checkpoint-N`, and resumes from the highest number
whether or not it is complete: a truncated file is an obscure error, a missing `optimizer.pt` is a
silently different training, a flipped bit is not noticed. Here every checkpoint gets, as its last
file, a manifest with the SHA-256 of all others, and only what agrees with its manifest is used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llmkit.ranks import current

log = logging.getLogger("llmkit")

MANIFEST = "manifest.json"
STATE = "trainer_state.json"  # Hugging Face's


class SealCheckpoints(TrainerCallback):
    """After each save, seals the checkpoint with a manifest, and then lets go of the oldest.

    Args:
        keep: checkpoints to keep (besides the best one so far, if there is a best one); None, all.
    """

    def __init__(self, keep: int | None) -> None:
        self.keep = keep

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        current().meet()  # each process has written its own random state before this point
        if state.is_world_process_zero:
            folder = Path(str(args.output_dir))
            write_manifest(folder / f"checkpoint-{state.global_step}")
            best = state.best_model_checkpoint
            self._let_go(folder, Path(best) if best is not None else None)

    def _let_go(self, folder: Path, best: Path | None) -> None:
        if self.keep is not None:
            for checkpoint in numbered_checkpoints(folder)[: -self.keep]:
                if checkpoint != best:
                    shutil.rmtree(checkpoint)


def write_manifest(checkpoint: Path) -> None:
    """Write `{file: sha256}` of all files in `checkpoint`, synced to disk, as its last file."""
    digests = {}
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            digests[path.relative_to(checkpoint).as_posix()] = file_digest(path, sync=True)
    temporary = checkpoint / f".{MANIFEST}.tmp"
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(digests, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(checkpoint / MANIFEST)


def file_digest(path: Path, sync: bool = False) -> str:
    """SHA-256 of a file's bytes, as hexadecimal; with `sync`, flushed to the disk first."""
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def fault(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint folder, or None when it agrees with its manifest."""
    manifest = checkpoint / MANIFEST
    if not manifest.exists():
        return "it was not finished"
    try:
        digests = json.loads(manifest.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return f"{MANIFEST} cannot be read"
    for name, digest in digests.items():
        path = checkpoint / name
        if not path.exists():
            return f"{name} is missing"
        if file_digest(path) != digest:
            return f"{name} has changed since it was written"
    return None


def newest_whole_checkpoint(folder: Path) -> Path | None:
    """The `checkpoint-N` with the highest N that is whole; the broken ones above it are removed."""
    for checkpoint in reversed(numbered_checkpoints(folder)):
        problem = fault(checkpoint)
        if problem is None:
            return checkpoint
        log.warning("%s is left out: %s; the one before it is tried", checkpoint.name, problem)
        shutil.rmtree(checkpoint)
    return None


def numbered_checkpoints(folder: Path) -> list[Path]:
    """Every `checkpoint-N` of `folder`, whole or not, by rising N."""
    numbered = [
        (int(path.name.removeprefix("checkpoint-")), path)
        for path in folder.glob("checkpoint-*")
        if path.is_dir() and path.name.removeprefix("checkpoint-").isdecimal()
    ]
    return [path for _, path in sorted(numbered)]


def is_complete(checkpoint: Path) -> bool:
    """Whether the training that wrote this checkpoint had no steps left."""
    state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    return bool(state["global_step"] >= state["max_steps"])
