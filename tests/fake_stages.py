"""Stages small enough to work out by hand, for the tests of the runner."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from llmkit.ladder import run
from llmkit.recipe import Recipe
from llmkit.schema import Refers
from llmkit.stage import Context, Stage

RUNS: list[str] = []  # the names of the stages that ran in this process, in order


@dataclass(frozen=True, kw_only=True)
class Words(Stage):
    """Writes `word` `count` times, a line at a time, resumable from `scratch`."""

    makes: ClassVar[tuple[str, ...]] = ("documents",)
    libraries: ClassVar[tuple[str, ...]] = ("tqdm",)

    count: int = 3
    word: str = "a"
    source: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def files(self) -> Iterator[Path]:
        if self.source is not None:
            yield Path(self.source)

    def prepare(self, name: str) -> None:
        if self.count < 0:
            raise ValueError("count must not be negative")

    def run(self, context: Context) -> dict[str, Any]:
        RUNS.append(context.name)
        lines = context.scratch / "lines.txt"
        done = len(lines.read_text().splitlines()) if lines.exists() else 0
        for number in range(done, self.count):
            with lines.open("a") as file:
                file.write(f"{self.word} {number} {context.seed}\n")
            with (context.logs / "tries.txt").open("a") as file:
                file.write(f"{number}\n")
            interrupt(context.name, number)
        (context.out / "words.txt").write_text(lines.read_text())
        passed = os.environ.get("GATE") != "fails"
        context.gate("counted", passed, self.count, "at least 0", "count again")
        return {"words": self.count, "loss": 1.23456}


def interrupt(name: str, number: int) -> None:
    """What the environment asks for, `stage:line:how`: a kill, an error, a full disk, a pause."""
    stage, line, how = os.environ.get("INTERRUPT", "::").split(":")
    if stage != name or int(line) != number:
        return
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "full":
        raise OSError(28, "No space left on device")
    if how == "denied":
        raise PermissionError(13, "Permission denied", "/mnt/data")
    if how == "bug":
        raise ZeroDivisionError("a bug")
    if how == "sigterm":
        os.kill(os.getpid(), signal.SIGTERM)
    if how == "ctrl_c":
        os.kill(os.getpid(), signal.SIGINT)
    if how == "in_a_library":
        with contextlib.suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)
    if how == "swallowed":
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)
    if how == "pause":
        print("pausing", flush=True)
        time.sleep(60)


@dataclass(frozen=True, kw_only=True)
class Upper(Stage):
    """Reads what Words wrote, in capitals."""

    makes: ClassVar[tuple[str, ...]] = ("model",)

    documents: Annotated[str | None, Refers("documents")] = None
    suffix: str = ""

    def run(self, context: Context) -> dict[str, Any]:
        RUNS.append(context.name)
        source = Path(context.inputs[str(self.documents)]) / "words.txt"
        (context.out / "upper.txt").write_text(source.read_text().upper() + self.suffix)
        (context.out / "config.json").write_text("{}")
        return {"accuracy": 0.5}


@dataclass(frozen=True, kw_only=True)
class Measure(Stage):
    """Writes a `metrics.json` like evaluate's."""

    models: tuple[str, ...] = ()

    def run(self, context: Context) -> dict[str, Any]:
        cell = {"value": 0.9, "low": 0.85, "high": 0.9333, "n": 100}
        metrics = {model: {"facts/accuracy": cell} for model in self.models}
        (context.out / "metrics.json").write_text(json.dumps(metrics))
        return {}


STAGES = {
    "words": "fake_stages:Words",
    "upper": "fake_stages:Upper",
    "evaluate": "fake_stages:Measure",
}


def recipe(
    folder: Path, words: dict[str, Any] | None = None, suffix: str = "", **top: Any
) -> Recipe:
    """A two-rung ladder: `words`, then `shout` (of kind upper), which reads it."""
    stages = {"words": Words(**(words or {})), "shout": Upper(documents="words", suffix=suffix)}
    settings: dict[str, Any] = {"name": "tiny", "seed": 0, "world": {"people": 10}} | top
    return Recipe(
        file=folder / "tiny.yaml",
        stages=dict(stages),
        kinds={"words": "words", "shout": "upper"},
        references={"words": {}, "shout": {"words": "words"}},
        resolved={"name": "tiny", "stages": {}},
        **settings,
    )


def climb(folder: Path, **options: Any) -> list[str]:
    """Run the two-rung ladder; returns the names of the stages that really ran."""
    RUNS.clear()
    chosen = {k: options.pop(k) for k in ("words", "suffix", "seed", "world") if k in options}
    run(recipe(folder, **chosen), output_dir=folder, **options)
    return list(RUNS)
