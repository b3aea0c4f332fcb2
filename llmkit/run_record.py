"""`run.json`: what the newest run in a folder was of. It also says whose folder it is.

And what a record says of money.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmkit.errors import InputError, UserError
from llmkit.recipe import Recipe
from llmkit.run_dir import RUN_RECORD, read_json, write_json
from llmkit.stage_key import plain


def check_folder(folder: Path, recipe: Recipe) -> None:
    """Raises UserError when `folder` holds the run of another recipe or profile.

    The recipe `a` under profile `b` and the recipe `a-b` would share a folder, and each would
    replace the other's stages.
    """
    try:
        held = read_json(folder / RUN_RECORD, "")
    except InputError:  # absent, or broken: it is written anew
        return
    there = spelt(held.get("recipe"), held.get("profile"))
    own = spelt(recipe.name, recipe.profile)
    if there != own:
        remedy = "give this one a folder of its own with --output-dir, or a name: name=NAME"
        raise UserError(str(folder), f"holds a run of {there}, and this is {own}", remedy)


def spelt(recipe: str | None, profile: str | None) -> str:
    return f"the recipe {recipe}" + (f" under profile {profile}" if profile else "")


def write_run_record(folder: Path, recipe: Recipe, command: str) -> None:
    """`command` holds the arguments of `llmkit run` that mean the same run."""
    write_json(
        folder / RUN_RECORD,
        {
            "recipe": recipe.name,
            "profile": recipe.profile,
            "command": command,
            "stages": recipe.kinds,
            "seed": recipe.seed,
            "resolved": plain(recipe.resolved),
        },
    )


def check_price(price: float | None) -> None:
    """Raises UserError for one that is negative."""
    if price is not None and not price >= 0:
        raise UserError("price", f"{price} is negative", "it is dollars for a GPU's hour")


def cost_of(
    price: float | None, seconds: float, metrics: Mapping[str, Any], processes: int = 1
) -> float | None:
    """Dollars of a stage: of these `seconds` on the accelerators of all processes, which are held
    while they wait too, or what a training that went on counted. None without a price."""
    if price is None:
        return None
    own = seconds / 3600 * price * processes
    return round(max(own, metrics.get("cost") or 0.0), 4)
