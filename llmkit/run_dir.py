"""What a stage leaves behind, and how it comes to stand there whole or not at all.

    runs/<recipe>/                <recipe>-<profile> under a profile
        run.json                  the resolved recipe of the newest run
        .lock                     one run at a time
        .<stage>.partial/         being made; survives a kill, and the next run goes on in it
        .<stage>.replaced/        the former folder, for the moment between two renames
        <stage>/                  finished: an ordinary Hugging Face artefact and
            stage.json            what made it: key, inputs, versions, metrics, SHA-256 of files
            logs/                 curves and times; not part of "the same bytes"

`stage.json` is written last (`complete: true`), then the folder is renamed; each step is flushed to
the disk before the next (https://lwn.net/Articles/457667/: write, fsync, rename, fsync the folder).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.errors import InputError, LlmkitError, UserError

RECORD = "stage.json"
RUN_RECORD = "run.json"
RECORDED = {"kind", "key", "parts", "input_files", "metrics", "seconds", "artefacts"}
NOT_ARTEFACTS = ("logs", "scratch")  # folders of a stage that may differ between equal runs

Artefacts = dict[str, dict[str, Any]]  # path within the folder -> {sha256, bytes, mtime_ns}


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` so that a reader sees the old file or the new one, never half of either."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    unfinished = path.with_name(f".{path.name}.new")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    sync(path.parent)


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The mapping in a file of ours. Raises InputError where it is absent or broken."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(str(path), "is missing", remedy) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(str(path), f"is broken ({error})", remedy) from None
    if not isinstance(value, dict):
        raise InputError(str(path), "is broken (not a mapping)", remedy)
    return value


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def artefact_files(folder: Path) -> Iterator[Path]:
    """Every file that counts, sorted by name: not `stage.json`, `logs/`, `scratch/`, dotfiles."""
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if inside.parts[0] in NOT_ARTEFACTS or inside == Path(RECORD):
            continue
        if path.is_file() and not any(part.startswith(".") for part in inside.parts):
            yield path


def seal(folder: Path) -> Artefacts:
    """Flush every artefact of `folder` to the disk and return its digests."""
    sealed: Artefacts = {}
    for path in artefact_files(folder):
        sync(path)
        status = path.stat()
        sealed[path.relative_to(folder).as_posix()] = {
            "sha256": sha256_of(path),
            "bytes": status.st_size,
            "mtime_ns": status.st_mtime_ns,
        }
    return sealed


def digest_of(artefacts: Artefacts) -> str:
    """One digest of names and contents: equal exactly when two folders hold the same bytes."""
    lines = (f"{artefacts[name]['sha256']}  {name}\n" for name in sorted(artefacts))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def first_change(folder: Path, artefacts: Artefacts) -> str | None:
    """What is no longer as it was written, in words (`config.json was changed`), or None.

    A file of the same size and time is trusted; otherwise its SHA-256 decides, so that a copied
    run (new times, same bytes) stays valid.
    """
    present = {path.relative_to(folder).as_posix(): path for path in artefact_files(folder)}
    for name, written in artefacts.items():
        if name not in present:
            return f"{name} is gone"
        status = present[name].stat()
        if status.st_size != written["bytes"]:
            return f"{name} was changed"
        same_time = status.st_mtime_ns == written["mtime_ns"]
        if not same_time and sha256_of(present[name]) != written["sha256"]:
            return f"{name} was changed"
    for name in present:
        if name not in artefacts:
            return f"{name} was added"
    return None


@dataclass(frozen=True)
class StageFolder:
    """The folder of one stage of a run, finished or on its way."""

    run: Path
    name: str

    @property
    def path(self) -> Path:
        return self.run / self.name

    @property
    def partial(self) -> Path:
        return self.run / f".{self.name}.partial"

    @property
    def replaced(self) -> Path:
        return self.run / f".{self.name}.replaced"

    def remedy(self, recipe: str = "RECIPE") -> str:
        return f"make it again: llmkit run {recipe} --only {self.name} --force"

    def record(self, recipe: str = "RECIPE") -> dict[str, Any] | None:
        """`stage.json` of the finished stage, None before there is one. Raises InputError."""
        if not self.path.is_dir():
            return None
        where, remedy = self.path / RECORD, self.remedy(recipe)
        record = read_json(where, remedy)
        if not record.get("complete") or not RECORDED <= record.keys():
            raise InputError(str(where), "is broken (it lacks what every stage records)", remedy)
        return record

    def verify(self, record: Mapping[str, Any], recipe: str = "RECIPE") -> None:
        """Raises UserError, naming the file, when the folder is not as its stage left it."""
        change = first_change(self.path, record["artefacts"])
        if change is not None:
            what = f"{change} after the stage was finished"
            remedy = f"put it back as it was, or {self.remedy(recipe)}"
            raise UserError(str(self.path), what, remedy)

    def begun_as(self, key: str) -> bool:
        """Whether an earlier try at the stage was begun with this key, and not finished."""
        begun = self.unfinished()
        return begun is not None and begun.get("key") == key

    def unfinished(self) -> dict[str, Any] | None:
        """What an earlier try was begun with, None where there is none or it cannot be told."""
        if not (self.partial / RECORD).is_file():
            return None
        try:
            return read_json(self.partial / RECORD, "")
        except InputError:
            return None

    def begin(self, key: str, parts: Mapping[str, Any], processes: int = 1) -> None:
        """Make the partial folder, empty, and note in it what it is begun with, and by how many."""
        self.discard_partial()
        self.partial.mkdir(parents=True)
        begun = {"key": key, "parts": dict(parts), "processes": processes, "complete": False}
        write_json(self.partial / RECORD, begun)

    def discard_partial(self) -> None:
        if self.partial.exists():
            shutil.rmtree(self.partial)

    def finish(self, record: Mapping[str, Any]) -> None:
        """Seal the partial folder with its record and give it its name. Raises OSError."""
        artefacts = seal(self.partial)
        if not artefacts:
            raise LlmkitError(f"{self.name}: the stage wrote nothing into its folder")
        for folder in (path for path in self.partial.rglob("*") if path.is_dir()):
            sync(folder)
        complete = {**record, "complete": True, "artefacts": artefacts}
        write_json(self.partial / RECORD, complete)
        self.rename()

    def rename(self) -> None:
        """Put the complete partial folder in the place of the finished one."""
        scratch = self.partial / "scratch"
        if scratch.exists():
            shutil.rmtree(scratch)
        if self.path.exists():
            if self.replaced.exists():
                shutil.rmtree(self.replaced)
            os.rename(self.path, self.replaced)
        os.rename(self.partial, self.path)
        sync(self.run)
        if self.replaced.exists():
            shutil.rmtree(self.replaced)

    def recover(self) -> None:
        """Finish the renames that a kill cut short."""
        begun = self.unfinished()
        if begun is not None and begun.get("complete"):
            self.rename()
        if self.replaced.exists():
            if self.path.exists():
                shutil.rmtree(self.replaced)
            else:
                os.rename(self.replaced, self.path)


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run folder for this process. Raises UserError when another one holds it.

    A POSIX record lock: the kernel drops it when the process dies, even by `kill -9`, and worker
    processes that outlive it do not inherit it (fcntl(2)), so a lock is never stale.
    """
    import fcntl

    try:
        run.mkdir(parents=True, exist_ok=True)
        file = (run / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        what = f"cannot be written ({error.strerror})"
        raise UserError(str(run), what, "choose another folder with --output-dir") from error
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                str(run),
                f"another run (process {file.read().strip() or 'unknown'}) is at work in it",
                "wait for it, or give this one a folder of its own with --output-dir",
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
