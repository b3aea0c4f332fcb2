"""What a launch that spreads a model over its processes leaves impossible.

Stages ask here before the first one begins: it is told at once, not when their turn comes.
"""

from __future__ import annotations

import os

from llmkit.errors import UserError
from llmkit.ranks import spread_by
from llmkit.trainers.settings import Optimizer, muon_settings

DDP = "launch by accelerate_configs/ddp.yaml, where each process has the whole model"


def check_muon(stage: str, optimizer: Optimizer) -> None:
    """DeepSpeed hands the optimizer its weights as one row; Muon needs them as matrices."""
    if muon_settings(optimizer) is not None and spread_by(os.environ) == "DEEPSPEED":
        what = "needs whole matrices, and DeepSpeed lays all weights in one row"
        raise UserError(f"{stage}.optimizer", what, "take adamw, or accelerate_configs/fsdp2.yaml")


def check_spikes(stage: str) -> None:
    """DeepSpeed keeps the gradients where it alone finds them."""
    if spread_by(os.environ) == "DEEPSPEED":
        what = "cannot leave an update out: DeepSpeed keeps the gradients to itself"
        remedy = "leave it out, or take accelerate_configs/fsdp2.yaml"
        raise UserError(f"{stage}.skip_spikes", what, remedy)


def check_new_layers(stage: str) -> None:
    """A layer is copied before training, which takes weights that are there."""
    third = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3"
    if third and spread_by(os.environ) == "DEEPSPEED":
        what = "copies layers, and DeepSpeed's third stage loads them in pieces"
        raise UserError(f"{stage}.new_layers", what, DDP)


def check_value_model(stage: str) -> None:
    """PPO's value model is trained beside the policy, by a trainer that knows of one model."""
    kind = spread_by(os.environ)
    if kind:
        raise UserError(stage, f"its value model is whole on each process: no {kind}", DDP)
