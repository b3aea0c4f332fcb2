"""A recipe's own profiles, as ways to make a stage fit: what its author has thought of already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llmkit.cost.hardware import Hardware
from llmkit.cost.shapes import Shape
from llmkit.errors import RecipeError
from llmkit.planning.fit import fits
from llmkit.planning.launches import Launch
from llmkit.planning.models import Known, known_of
from llmkit.planning.stages import work_for
from llmkit.planning.step import stops
from llmkit.planning.work import Work
from llmkit.recipe import Recipe
from llmkit.span import spoken


@dataclass(frozen=True)
class Profiles:
    """The profiles of a recipe beside the one that is planned; read when something does not fit.

    Attributes:
        recipe, overrides: as they were asked for.
        planned: the recipe under the profile that is planned.
    """

    recipe: str | Path
    overrides: Sequence[str] | Mapping[str, Any]
    planned: Recipe

    @cached_property
    def known(self) -> dict[str, dict[str, Known]]:
        """Profile -> its stages. One that has problems with these overrides is no way out."""
        found = {}
        for profile in self.planned.profiles:
            if profile == self.planned.profile:
                continue
            try:
                found[profile] = known_of(Recipe.load(self.recipe, self.overrides, profile))
            except RecipeError:
                continue
        return found

    def fitting(self, known: Known, hardware: Hardware) -> list[str]:
        """Commands, one a profile, under which the stage fits and trains the same model as far."""
        shape = known.shape
        if shape is None:
            return []
        wanted, ways = work_for(known, shape, hardware), []
        for profile, stages in self.known.items():
            other = stages.get(known.name)
            if other is None or (other.kind, other.shape) != (known.kind, shape):
                continue
            work = work_for(other, shape, hardware)
            if stops(work, hardware) or not as_far(wanted, work):
                continue
            launch = first_that_fits(shape, work, other, hardware)
            if launch is not None:
                words = spoken(self.recipe, self.overrides, profile, None)
                ways.append(launch.command(words, hardware))
        return ways


def as_far(one: Work, other: Work) -> bool:
    """Whether both train on rows as long, for as many steps or tokens: `smoke` does not."""
    tokens = [None if w.steps is None else w.steps * w.tokens_per_step for w in (one, other)]
    same = one.steps == other.steps or tokens[0] == tokens[1]
    return same and one.context == other.context


def first_that_fits(shape: Shape, work: Work, known: Known, hardware: Hardware) -> Launch | None:
    """Each rank with the whole model, else the first shape that shares it and will do."""
    shared = known.launches if hardware.ranks > 1 else ()
    for launch in (Launch("none"), *shared):
        if fits(shape, work.load.with_(sharding=launch.sharding), hardware):
            return launch
    return None
