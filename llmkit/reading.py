"""One reading of a recipe's text: its lines, its changes from outside, and all of its problems."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmkit.build import Builder
from llmkit.errors import Problem, RecipeError
from llmkit.overrides import OverrideError, assign, split, substitute, unknown_variables
from llmkit.stages import STAGES
from llmkit.wording import describe, nearest
from llmkit.yaml12 import Document, scalar
from llmkit.yaml12 import Path as KeyPath

TOP = {"name": str, "seed": int, "world": dict, "vars": dict, "stages": dict, "profiles": dict}
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
FOLDER = "use letters, digits, '.', '_' and '-'"
Overrides = Sequence[str] | Mapping[str, Any] | None


@dataclass
class Reading:
    """One reading of one file: the lines of its keys, and the problems found so far."""

    file: Path
    lines: dict[KeyPath, str] = field(default_factory=dict)
    found: list[tuple[str, Problem]] = field(default_factory=list)
    builder: Builder = field(default_factory=Builder)

    def mapping(self, document: Document) -> dict[str, Any]:
        """A recipe's document as a mapping of one's own, or an end here with what is wrong."""
        self.found += [(f"{self.file}:{line}", problem) for line, problem in document.problems]
        self.lines = {path: f"{self.file}:{line}" for path, line in document.lines.items()}
        if document.value is None and document.problems:
            self.stop()
        if not isinstance(document.value, dict):
            found = "is empty" if document.value is None else f"holds {describe(document.value)}"
            self.note(
                (), f"a recipe is a mapping, but this file {found}", "it begins with `stages:`"
            )
            self.stop()
        return copy.deepcopy(document.value)

    def note(self, path: KeyPath, what: str, remedy: str = "") -> None:
        """Remember a problem, with the place of the nearest key that has one."""
        place = next(
            (self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines),
            str(self.file),
        )
        shown = path[1:] if path[:1] == ("stages",) and len(path) > 1 else path
        self.found.append((place, Problem(shown, what, remedy)))

    def stop(self) -> None:
        """Raise what was found, in the order of the file."""
        self.found += [(self._place(problem), problem) for problem in self.builder.problems]
        self.builder.problems.clear()
        if self.found:
            ordered = sorted(self.found, key=lambda item: _order(item[0]))
            texts = [f"{place}: {problem}" for place, problem in ordered]
            raise RecipeError(list(dict.fromkeys(texts)))

    def _place(self, problem: Problem) -> str:
        roots = [problem.path, ("stages", *problem.path)]
        tries = [root[:n] for n in range(len(problem.path) + 1, 0, -1) for root in roots[::-1]]
        return next((self.lines[path] for path in tries if path in self.lines), str(self.file))

    def check_top(self, top: dict[str, Any]) -> None:
        """The keys themselves, and the mappings that the changes from outside go into."""
        for key in list(top):
            if key not in TOP:
                self.note((key,), "no such key in a recipe", nearest(key, TOP))
            elif TOP[key] is dict and not isinstance(top[key], dict):
                self.note((key,), f"must be a mapping, not {describe(top.pop(key))}")
        if not top.get("stages"):
            if "stages" in top or not any(p.path == ("stages",) for _, p in self.found):
                self.note(
                    ("stages",),
                    "a recipe needs at least one stage",
                    f"there are {', '.join(STAGES)}",
                )
            top["stages"] = {}

    def check_values(self, top: dict[str, Any]) -> None:
        """Name and seed, as they stand after profile, overrides and variables."""
        name, seed = top.setdefault("name", self.file.stem), top.setdefault("seed", 0)
        if not isinstance(name, str) or not NAME.fullmatch(name):
            self.note(("name",), f"{name!r} cannot name a folder", FOLDER)
        if not isinstance(seed, int) or isinstance(seed, bool):
            self.note(("seed",), f"must be a whole number, not {describe(seed)}")
        elif not 0 <= seed < 2**32:
            self.note(("seed",), f"{seed} is no seed of numpy", f"it takes 0 to {2**32 - 1}")

    def change(self, top: dict[str, Any], overrides: Overrides, profile: str | None) -> None:
        """Apply the profile, then the overrides, each to where its dotted path leads."""
        profiles = top.get("profiles", {})
        for name, changes in profiles.items():
            if not NAME.fullmatch(name):
                what = "cannot name a folder, and a profile's run has its own"
                self.note(("profiles", name), what, FOLDER)
            if not isinstance(changes, dict):
                self.note(
                    ("profiles", name), f"must be a mapping of dotted keys, not {describe(changes)}"
                )
                continue
            for key, value in changes.items():
                place = self.lines.get(("profiles", name, key), str(self.file))
                self.set(top, key, copy.deepcopy(value), place, apply=name == profile)
        if profile is not None and profile not in profiles:
            remedy = nearest(profile, profiles) or f"there are {', '.join(profiles) or 'none'}"
            self.found.append(
                ("command line", Problem(("--profile",), f"no profile {profile!r}", remedy))
            )
        for key, value in _pairs(overrides):
            if value is _MISSING or not isinstance(key, str):
                what = "an override has the form key=value"
                if value is not _MISSING:
                    what = f"an override's key is a dotted path, not {describe(key)}"
                self.found.append(("command line", Problem((str(key),), what)))
            else:
                self.set(top, key, value, "command line", apply=True)

    def set(self, top: dict[str, Any], key: str, value: Any, place: str, apply: bool) -> None:
        """Set the value at a dotted key that begins with a stage, a top-level key, or a var."""
        stages, variables = top["stages"], top.get("vars", {})
        try:
            path = split(key)
            if path[0] in stages:
                path = ("stages", *path)
            elif path[0] in variables and len(path) == 1:
                path = ("vars", *path)
            elif path[0] == "profiles":
                raise OverrideError("profiles stand in the recipe alone; choose with --profile")
            elif path in (("stages",), ("vars",)) and not isinstance(value, dict):
                raise OverrideError(f"must be a mapping, not {describe(value)}")
            elif path[0] not in TOP:
                remedy = nearest(str(path[0]), [*stages, *TOP, *variables])
                raise OverrideError(
                    f"{path[0]!r} is no stage and no top-level key" + f"; {remedy}" * bool(remedy)
                )
            if not apply:
                return
            assign(top, path, value)
        except OverrideError as error:
            self.found.append((place, Problem((key,), str(error))))
            return
        for old in [p for p in self.lines if p[: len(path)] == path]:
            del self.lines[old]
        self.lines[path] = place

    def expand(self, top: dict[str, Any]) -> dict[str, Any]:
        """Put the `vars:` in their places."""
        variables = top.get("vars", {})
        for path, name in unknown_variables(variables, (), ("vars",)):
            self.note(path, f"${{{name}}} stands in a variable", "write out what it holds")
        for path, name in unknown_variables(
            {k: v for k, v in top.items() if k != "vars"}, variables
        ):
            if path[0] != "profiles":
                remedy = nearest(name, variables) or f"there are {', '.join(variables) or 'none'}"
                self.note(path, f"no variable {name!r} in vars", remedy)
        return {
            key: value if key == "vars" else substitute(value, variables)
            for key, value in top.items()
        }

    def kind(self, name: str, top: dict[str, Any]) -> str | None:
        """The word of `STAGES` that a stage is: its `stage:` key, else its name."""
        path = ("stages", name)
        body = top["stages"][name]
        if body is None:
            body = top["stages"][name] = {}
        if name in TOP or name in top.get("vars", {}):
            self.note(path, "is the name of a top-level key or variable", "rename the stage")
        if not NAME.fullmatch(name):
            self.note(path, "cannot name a folder", FOLDER)
        elif "." in name:
            self.note(path, "holds a dot, which stands between the keys of a path", "write '-'")
        if not isinstance(body, dict):
            self.note(path, f"a stage takes a mapping, not {describe(body)}")
            return None
        word = body.get("stage", name)
        if word not in STAGES:
            remedy = (
                nearest(str(word), STAGES)
                or f"there are {', '.join(STAGES)}; `stage:` says the kind"
            )
            self.note(
                (*path, "stage") if "stage" in body else path,
                f"no stage is called {word!r}",
                remedy,
            )
            return None
        return str(word)


_MISSING = object()


def _pairs(overrides: Overrides) -> Iterable[tuple[Any, Any]]:
    """Keys and values of what the command line or a caller gives; a single text is one override."""
    if isinstance(overrides, Mapping):
        return overrides.items()
    return map(_pair, [overrides] if isinstance(overrides, str) else overrides or ())


def _pair(text: object) -> tuple[Any, Any]:
    if not isinstance(text, str):
        return text, _MISSING
    key, equals, value = text.partition("=")
    return key.strip(), scalar(value) if equals else _MISSING


def _order(place: str) -> tuple[str, int]:
    """Problems of a file by line, those of the command line last."""
    name, _, line = place.rpartition(":")
    return (name or "~", int(line)) if line.isdigit() else ("~" + place, 0)
