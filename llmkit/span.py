"""What a call of `run` asks for: which stages, and the words of a command that asks the same."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmkit.errors import UserError
from llmkit.recipe import Recipe
from llmkit.wording import nearest


def selected(recipe: Recipe, only: str | None, from_: str | None, to: str | None) -> list[str]:
    """The names of the stages to run, in order. Raises UserError."""
    names = list(recipe.stages)
    for option, name in (("--only", only), ("--from", from_), ("--to", to)):
        if name is not None and name not in names:
            what = f"{recipe.name} has no stage {name} (it has {', '.join(names)})"
            raise UserError(option, what, nearest(name, names))
    if only is not None:
        if from_ is not None or to is not None:
            raise UserError("--only", "cannot stand beside --from or --to", "use one or the other")
        return [only]
    first = names.index(from_) if from_ is not None else 0
    last = names.index(to) if to is not None else len(names) - 1
    if first > last:
        raise UserError("--from", f"{from_} comes after {to}", f"the order is {', '.join(names)}")
    return names[first : last + 1]


def spoken(
    recipe: str | Path | Recipe,
    overrides: Sequence[str] | Mapping[str, Any] | None,
    profile: str | None,
    output_dir: str | Path | None,
) -> str:
    """The arguments of `llmkit run` that mean the same recipe, for remedies that one can paste."""
    words = [recipe.name if isinstance(recipe, Recipe) else str(recipe)]
    if isinstance(overrides, Mapping):
        words += [f"{key}={value}" for key, value in overrides.items()]
    else:
        words += [overrides] if isinstance(overrides, str) else overrides or ()
    words += ["--profile", profile] if profile else []
    words += ["--output-dir", str(output_dir)] if output_dir else []
    return shlex.join(words)
