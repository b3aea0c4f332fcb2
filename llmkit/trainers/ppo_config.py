"""`PPOConfig`: TRL's `GRPOConfig` with PPO's own arguments, by the names that TRL's PPO had."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from trl import GRPOConfig

from llmkit.trainers.ppo_refused import REFUSED, TRUE_ANYWAY

POSITIVE = (
    "num_ppo_epochs",
    "num_mini_batches",
    "num_generations",
    "cliprange",
    "cliprange_value",
    "kl_target",
    "kl_horizon",
)
NOT_NEGATIVE = ("kl_coef", "vf_coef", "missing_eos_penalty", "critic_learning_rate")
FRACTIONS = ("gamma", "lam")


@dataclass
class PPOConfig(GRPOConfig):
    """Arguments of `PPOTrainer`. A rollout is, on each rank,

        per_device_train_batch_size * gradient_accumulation_steps * num_mini_batches

    completions; it is gone over `num_ppo_epochs` times, with `num_mini_batches` updates each time.
    `steps_per_generation`, `generation_batch_size` and `num_iterations` of `GRPOConfig` follow.

    What `GRPOConfig` has for groups and for other losses is refused (`ppo_refused.py`).
    """

    learning_rate: float = field(default=3e-6, metadata={"help": "Of the policy."})
    num_generations: int | None = field(
        default=1, metadata={"help": "Completions of each prompt in a rollout."}
    )
    num_ppo_epochs: int = field(default=4, metadata={"help": "Passes over a rollout."})
    num_mini_batches: int = field(default=4, metadata={"help": "Updates in each pass."})
    kl_coef: float = field(
        default=0.05, metadata={"help": "Of the KL penalty in each token's reward."}
    )
    kl_estimator: Literal["k1", "k3"] = field(
        default="k1",
        metadata={"help": "log(p/q), or q/p - 1 - log(q/p), which is never negative."},
    )
    kl_target: float | None = field(
        default=None,
        metadata={"help": "Nats a completion that kl_coef is moved towards; None keeps it fixed."},
    )
    kl_horizon: int = field(
        default=10_000, metadata={"help": "Completions in which kl_coef may double."}
    )
    gamma: float = field(default=1.0, metadata={"help": "Discount of rewards to come."})
    lam: float = field(default=0.95, metadata={"help": "Lambda of GAE."})
    cliprange: float = field(default=0.2, metadata={"help": "How far the ratio may go from 1."})
    cliprange_value: float | None = field(
        default=0.2,
        metadata={"help": "How far a value may go in a rollout; None lets it go anywhere."},
    )
    vf_coef: float = field(default=0.1, metadata={"help": "Of the value loss."})
    critic_learning_rate: float | None = field(
        default=None, metadata={"help": "Of the value model; learning_rate where it is None."}
    )
    whiten_rewards: bool = field(
        default=False, metadata={"help": "Scale each rollout's rewards to variance 1."}
    )
    missing_eos_penalty: float | None = field(
        default=None, metadata={"help": "Taken from the score of an unfinished completion."}
    )

    def __post_init__(self) -> None:
        self._refuse()
        rows = self.gradient_accumulation_steps * self.num_mini_batches
        completions = self.num_generations or 1
        rows_of_a_rank = self.per_device_train_batch_size * rows
        if rows_of_a_rank < 2:
            raise ValueError(
                "a rollout of one completion has no spread to scale advantages by: raise "
                "per_device_train_batch_size or num_mini_batches"
            )
        self.steps_per_generation, self.generation_batch_size = rows, None
        self.num_iterations = self.num_ppo_epochs
        self.num_generations_eval: int | None = self.num_generations_eval or completions
        # GRPO takes no group of one, and PPO needs no groups: while it looks, a rollout is a group.
        self.num_generations = rows_of_a_rank
        super().__post_init__()
        self.num_generations = completions
        if rows_of_a_rank * self.world_size % completions:
            raise ValueError(
                f"a rollout of {rows_of_a_rank * self.world_size} completions does not hold "
                f"num_generations ({completions}) of each prompt"
            )
        self.beta = 1.0  # tells the trainer to keep a reference; kl_coef is the coefficient

    def _refuse(self) -> None:
        """Raise ValueError for what PPO does not honour, and for figures out of range."""
        for entry in fields(self):
            taken = (entry.default, TRUE_ANYWAY.get(entry.name, entry.default))
            if entry.name in REFUSED and getattr(self, entry.name) not in taken:
                raise ValueError(f"{entry.name} has no place in PPO: {REFUSED[entry.name]}")
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}: {value} is not positive")
        for name in NOT_NEGATIVE:
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name}: {value} is negative")
        for name in FRACTIONS:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not between 0 and 1")
        if self.kl_estimator not in ("k1", "k3"):
            raise ValueError(f"kl_estimator: {self.kl_estimator!r} is neither k1 nor k3")
