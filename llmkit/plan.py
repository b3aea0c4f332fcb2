"""`llmkit plan`: what a recipe will take on named hardware, before anything runs.

Reads configurations and arguments alone, and imports none of torch, transformers and datasets. The
formulas stand in `llmkit/cost/`; docs/plan.md says how far they can be believed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmkit.cost.hardware import Hardware, hardware_of
from llmkit.errors import UserError
from llmkit.planning.models import Known, known_of
from llmkit.planning.profiles import Profiles
from llmkit.planning.stages import StagePlan, Wanted, plan_stage
from llmkit.planning.table import table
from llmkit.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plans of a recipe's stages, in their order.

    `hours` and `dollars` add up what is known of them; None where that is nothing.
    """

    recipe: str
    hardware: Hardware
    price: float | None
    stages: tuple[StagePlan, ...]

    def __getitem__(self, name: str) -> StagePlan:
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def hours(self) -> float | None:
        return _sum(stage.hours for stage in self.stages)

    @property
    def dollars(self) -> float | None:
        """None without a price, too."""
        return _sum(stage.dollars for stage in self.stages)

    def table(self) -> str:
        """For a terminal of 110 columns."""
        device = self.hardware.accelerator
        price = "" if self.price is None else f" at ${self.price:g} an hour each"
        head = f"{self.recipe} on {self.hardware}{price} ({device.flops / 1e12:g} TFLOP/s each)"
        return f"{head}\n\n{table(self.stages, self.hours, self.dollars)}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as `llmkit plan --json` prints them."""
        return {
            "recipe": self.recipe,
            "hardware": str(self.hardware),
            "price": self.price,
            "hours": self.hours,
            "dollars": self.dollars,
            "stages": [asdict(stage) for stage in self.stages],
        }


def plan(
    recipe: str | Path | Recipe,
    hardware: str,
    price: float | None = None,
    mfu: float | None = None,
    tokens_per_second: float | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    profile: str | None = None,
) -> Plan:
    """Plan every stage of a recipe.

    Args:
        recipe: its name or path; then its other profiles are tried where something does not fit.
        hardware: `8xH100`, of the table in `llmkit.cost.hardware`.
        price: dollars for an hour of one accelerator.
        mfu: share of the peak that training reaches, of 1; predicted where it is not given.
        tokens_per_second: of all accelerators together, where it was measured.

    Raises:
        UserError: the hardware is unknown, or a figure is out of range.
        RecipeError: the recipe has problems.
    """
    _check(price, mfu, tokens_per_second)
    wanted = Wanted(
        hardware=hardware_of(hardware), price=price, mfu=mfu, tokens_per_second=tokens_per_second
    )
    if isinstance(recipe, Recipe):
        loaded, profiles = recipe, None  # nobody knows what to type for it
    else:
        loaded = Recipe.load(recipe, overrides, profile)
        profiles = Profiles(recipe, overrides, loaded)
    stages = known_of(loaded).values()
    return Plan(
        recipe=loaded.run_name,
        hardware=wanted.hardware,
        price=price,
        stages=tuple(_planned(known, wanted, profiles) for known in stages),
    )


def _planned(known: Known, wanted: Wanted, profiles: Profiles | None) -> StagePlan:
    found = plan_stage(known, wanted)
    if found.fits is not False or profiles is None:
        return found
    return plan_stage(known, wanted, profiles.fitting(known, wanted.hardware))


def _sum(figures: Iterable[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None


def _check(price: float | None, mfu: float | None, tokens_per_second: float | None) -> None:
    if price is not None and not 0 <= price < math.inf:
        remedy = "it is dollars for a GPU's hour: 1.75, say"
        raise UserError("--price", f"{price:g} is no number from 0 up", remedy)
    if mfu is not None and not 0 < mfu <= 1:
        remedy = "it is a share of the peak: 0.4, say"
        raise UserError("--mfu", f"{mfu:g} is not above 0 and at most 1", remedy)
    if tokens_per_second is not None and not 0 < tokens_per_second < math.inf:
        what = f"{tokens_per_second:g} is no number above 0"
        raise UserError("--tokens-per-second", what, "it is of all GPUs together: 1.5e6, say")
    if mfu is not None and tokens_per_second is not None:
        raise UserError("--mfu", "stands beside --tokens-per-second", "keep one of the two")
