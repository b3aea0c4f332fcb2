"""What every stage is: a frozen dataclass whose fields are its recipe keys, with `run(context)`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from llmkit.errors import GateError, Problem

log = logging.getLogger("llmkit")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known, before anything runs, of what a stage makes. `None` is "not known yet"."""

    vocab_size: int | None = None
    context_length: int | None = None  # tokens the model, or a row of the shards, can hold
    eos_token: str | None = None
    pad_token: str | None = None
    chat_template: bool | None = None
    validation: bool | None = None  # whether shards have a validation split with anything in it


@dataclass(kw_only=True)
class Context:
    """What the runner hands to a stage.

    Attributes:
        name: the stage's name in the recipe.
        out: the folder to write; it becomes `runs/<recipe>/<name>/` when `run` returns. After a
            kill, what an earlier try with the same settings left in it is still there.
        seed: of everything random in this stage.
        world: the recipe's `world:` settings (keyword arguments of tinyworld's `World`).
        inputs: reference as written in the recipe -> finished stage folder, local folder or Hub id.
        price: dollars for an hour of one accelerator, for figures of cost; None where not given.
    """

    name: str
    out: Path
    seed: int = 0
    world: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Path | str] = field(default_factory=dict)
    gates: Literal["stop", "warn"] = "stop"
    gate_results: list[dict[str, Any]] = field(default_factory=list)
    price: float | None = None

    @property
    def scratch(self) -> Path:
        """For checkpoints and block state: survives a kill, removed when the stage is complete."""
        path = self.out / "scratch"
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def logs(self) -> Path:
        """For curves and tables that may differ between two equal runs (times, rates)."""
        path = self.out / "logs"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def gate(self, name: str, passed: bool, measured: object, bound: str, remedy: str) -> None:
        """Record a gate's figure; when it did not pass, stop (or warn, as `gates: warn` asks)."""
        self.gate_results.append(
            {"gate": name, "passed": passed, "measured": measured, "bound": bound}
        )
        if passed:
            return
        error = GateError(name, measured, bound, remedy)
        if self.gates == "stop":
            raise error
        log.warning("%s", error)

    def gate_left_out(self, name: str, why: str, bound: str) -> None:
        """Record that a gate has nothing to measure here: it neither passed nor failed."""
        self.gate_results.append({"gate": name, "passed": None, "measured": why, "bound": bound})
        log.warning("gate %s could not be measured: %s", name, why)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Base of the stages: the keys all of them share, and what the runner asks of them."""

    makes: ClassVar[tuple[str, ...]] = ()
    libraries: ClassVar[tuple[str, ...]] = ()  # whose versions are part of the stage's key
    unkeyed: ClassVar[tuple[str, ...]] = ()  # fields that change logs alone, no artefact
    together: ClassVar[bool] = False  # whether all processes of a launch run it, or the first alone

    gates: Literal["stop", "warn"] = "stop"

    def facts(self, upstream: Mapping[str, Facts]) -> Facts:
        """What is known of this stage's output, given the facts of the stages it refers to."""
        return Facts()

    def problems(self, upstream: Mapping[str, Facts]) -> Iterator[Problem]:
        """What makes this stage impossible, told before anything runs. Paths start at its keys."""
        yield from ()

    def versioned(self) -> tuple[str, ...]:
        """The libraries whose versions are part of this stage's key."""
        return self.libraries

    def files(self) -> Iterator[Path]:
        """Local files and folders that this stage reads and no stage made: part of its key."""
        yield from ()

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        """Hub data sets that this stage reads, with their revision: the key holds their commits."""
        yield from ()

    def prepare(self, name: str) -> None:
        """Construct every Hugging Face config, before the first stage of a run begins.

        What their own checks refuse comes as UserError then, not after hours of earlier stages;
        `name` is the stage's name in the recipe, for the error to begin with.
        """

    def run(self, context: Context) -> dict[str, Any]:
        """Do the work into `context.out`; return figures for `stage.json` and the closing table."""
        raise TypeError(f"{type(self).__name__} does not say how it runs")
