"""One family of errors. Every message says where, what, and the remedy.

LlmkitError                 exit status 1: our fault
├── UserError               exit status 2: the user's recipe, data, or machine
│   ├── RecipeError         every problem of a recipe at once
│   ├── InputError          a file or data set that is missing, empty or broken
│   ├── GateError           a check that guards the next stage did not pass
│   └── MissingExtraError   an optional dependency is not installed
└── Stopped                 exit status 128 + signal: stopped on request; run again to go on
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class LlmkitError(Exception):
    """Base of every error that llmkit raises on purpose."""

    exit_status = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """So that a worker process can hand it on, whatever its constructor takes."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[LlmkitError], args: tuple[Any, ...], state: dict[str, Any]) -> LlmkitError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class UserError(LlmkitError):
    """Something outside llmkit must change: `where: what; remedy`."""

    exit_status = 2

    def __init__(self, where: str, what: str, remedy: str = "") -> None:
        self.where, self.what, self.remedy = where, what, remedy
        super().__init__(f"{where}: {what}" + (f"; {remedy}" if remedy else ""))


class InputError(UserError):
    """A file or data set is missing, empty or broken."""


class MissingExtraError(UserError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(purpose, f"{package} is not installed", f"pip install 'llmkit[{extra}]'")


class GateError(UserError):
    """A measured figure is out of bounds, and going on would waste the stages that follow."""

    def __init__(self, gate: str, measured: object, bound: str, remedy: str) -> None:
        self.gate, self.measured, self.bound = gate, measured, bound
        super().__init__(f"gate {gate}", f"measured {measured}, must be {bound}", remedy)


@dataclass(frozen=True)
class Problem:
    """One fault of a recipe. `path` is the dotted path from the top of the YAML file."""

    path: tuple[str | int, ...]
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.what}" + (f"; {self.remedy}" if self.remedy else "")


class RecipeError(UserError):
    """A recipe that cannot run, with all of its problems, one a line."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        LlmkitError.__init__(self, "\n".join(self.problems))


class Stopped(LlmkitError):
    """A signal (or a time limit) asked for a stop, and the work so far is kept."""

    def __init__(self, signal_number: int, stage: str) -> None:
        self.exit_status = 128 + signal_number
        super().__init__(f"{stage}: stopped on request; run the same command again to go on")


def dotted(path: Sequence[str | int]) -> str:
    """`("curate", "steps", 0, "minhash")` -> `curate.steps[0].minhash`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text or "(top)"
