"""The launch shapes that a stage can run under where there are several ranks.

None is named that the run would refuse (llmkit/trainers/launch.py): PPO's value model is whole on
each rank, and DeepSpeed gives neither Muon its matrices nor `skip_spikes` the gradients. A launch
is of a whole command, so a shape that another training of the recipe cannot take is for this stage
alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmkit.cost.hardware import Hardware
from llmkit.cost.memory import Sharding
from llmkit.planning.work import KINDS
from llmkit.recipe import Recipe
from llmkit.trainers.settings import muon_settings

ONE_MACHINE = 8  # GPUs
PLAIN = {True: "ddp", False: "multi_node"}  # whether they stand in one machine


@dataclass(frozen=True)
class Launch:
    """A file of `accelerate_configs/`, and the stage that it is for where others cannot take it."""

    sharding: Sharding
    only: str | None = None

    def __str__(self) -> str:
        alone = f" with --only {self.only}" if self.only is not None else ""
        return f"accelerate_configs/{self.sharding}.yaml{alone}"

    def command(self, words: str, hardware: Hardware) -> str:
        """What to type, to launch `llmkit run` with these words on all ranks of the hardware."""
        run = f"llmkit run {words}" + (f" --only {self.only}" if self.only is not None else "")
        if hardware.ranks == 1:
            return run
        plain = PLAIN[hardware.ranks <= ONE_MACHINE]
        file = f"accelerate_configs/{plain if self.sharding == 'none' else self.sharding}.yaml"
        return f"accelerate launch --config_file {file} --num_processes {hardware.ranks} -m {run}"


def launches_of(recipe: Recipe, name: str) -> tuple[Launch, ...]:
    """The shapes that share the stage's model among ranks, the least sharing first."""
    can = {
        stage: shardings(kind, recipe.stages[stage])
        for stage, kind in recipe.kinds.items()
        if kind in KINDS
    }
    return tuple(
        Launch(sharding, None if all(sharding in other for other in can.values()) else name)
        for sharding in can.get(name, ())
    )


def shardings(kind: str, stage: Any) -> tuple[Sharding, ...]:
    if kind == "ppo":
        return ()
    muon = muon_settings(stage.optimizer) is not None
    if muon or getattr(stage, "skip_spikes", None) is not None:
        return ("fsdp2",)
    return ("zero2", "fsdp2")
