"""Recipe keys that all training stages share. Imports nothing heavy: a recipe check reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Patches = Literal["auto", "none"] | list[str]


@dataclass(frozen=True, kw_only=True)
class MuonSettings:
    """Muon's own figures, for the hidden matrices.

    Embeddings, norms, biases and the head stay with AdamW, at `args.learning_rate` and
    `args.weight_decay`. The learning-rate schedule of `args` scales both.

    Attributes:
        learning_rate: of an orthogonal update; 0.02 is Keller Jordan's default.
        momentum: of the gradients' moving average (Nesterov).
        weight_decay: decoupled, times the learning rate.
        iterations: of Newton-Schulz.
    """

    learning_rate: float = 0.02
    momentum: float = 0.95
    weight_decay: float = 0.0
    iterations: int = 5


@dataclass(frozen=True, kw_only=True)
class MuonOptimizer:
    """`optimizer: {muon: {learning_rate: 0.01}}`; `optimizer: muon` takes the defaults."""

    muon: MuonSettings


Optimizer = Literal["adamw", "muon"] | MuonOptimizer


def muon_settings(optimizer: Optimizer) -> MuonSettings | None:
    """Muon's figures where it is chosen, None for AdamW."""
    if isinstance(optimizer, MuonOptimizer):
        return optimizer.muon
    return MuonSettings() if optimizer == "muon" else None
