"""The recipe keys that trainer stages share. Imports nothing heavy: a recipe check reads it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llmkit.errors import Problem, UserError
from llmkit.patch import check_names
from llmkit.trainers.schedules import schedule_problems

Patches = Literal["auto", "none"] | list[str]

NOTHING = "nothing here reads it: leave it out"
COLUMNS = "the rows hold what the model takes and nothing else"
VALIDATION = "llmkit counts the validation loss itself, over every token; " + NOTHING
STAGES = "a trainer stage trains, and an `evaluate` stage measures"

# Arguments of every trainer that would break what llmkit promises, or do nothing in silence.
REFUSED = {
    "save_only_model": "a stopped training could not go on in the same bytes without its optimizer",
    "ignore_data_skip": "a training that goes on would read other rows than one never stopped",
    "enable_jit_checkpoint": "llmkit stops on a signal itself, where a checkpoint resumes exactly",
    "restore_callback_states_from_checkpoint": NOTHING,
    "do_train": STAGES,
    "do_eval": STAGES,
    "do_predict": STAGES,
    "remove_unused_columns": COLUMNS,
    "label_names": COLUMNS,
    "length_column_name": COLUMNS,
    "prediction_loss_only": VALIDATION,
    "include_for_metrics": VALIDATION,
    "batch_eval_metrics": VALIDATION,
    "eval_do_concat_batches": VALIDATION,
    "eval_use_gather_object": VALIDATION,
    "eval_accumulation_steps": VALIDATION,
    "bf16_full_eval": VALIDATION,
    "fp16_full_eval": VALIDATION,
    "local_rank": "the launcher says it",
}
# What these say is what llmkit does.
TRUE_ANYWAY = (("save_only_model", False), ("ignore_data_skip", False))

COUNTS = (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
)
RATES = (
    "learning_rate",
    "critic_learning_rate",
    "weight_decay",
    "adam_epsilon",
    "max_grad_norm",  # 0 clips nothing
)
NATURAL = ("dataloader_num_workers",)  # 0 reads in the training's own process
BETAS = ("adam_beta1", "adam_beta2")


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

    def __post_init__(self) -> None:
        for name in ("learning_rate", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is negative")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum: {self.momentum} is not at least 0 and below 1")
        if self.iterations < 1:
            raise ValueError(f"iterations: {self.iterations} is not positive")


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


def trainer_problems(
    args: Mapping[str, Any],
    refused: Mapping[str, str],
    patches: Patches,
    optimizer: Optimizer,
    tokens_per_step: int | None,
) -> Iterator[Problem]:
    """What is wrong with the keys that trainer stages share.

    Args:
        args: as the recipe gives them, names and types already checked.
        refused: argument -> why the stage does not take it, besides what no trainer here takes.
    """
    reasons = {**REFUSED, **refused}
    for key, value in args.items():
        if key in reasons and (key, value) not in TRUE_ANYWAY:
            yield Problem(("args", key), "has no place here", reasons[key])
        elif value is not None:
            yield from _range_problems(key, value)
    steps = args.get("max_steps", -1)
    if steps == 0 or steps < -1:
        remedy = "give a number, or leave it out for num_train_epochs"
        yield Problem(("args", "max_steps"), f"{steps} takes no step", remedy)
    if optimizer != "adamw" and "optim" in args:
        yield Problem(("args", "optim"), "stands against `optimizer: muon`", "keep one of the two")
    if tokens_per_step is not None and "gradient_accumulation_steps" in args:
        what = "sets gradient_accumulation_steps"
        yield Problem(("tokens_per_step",), what, "keep one of the two")
    if tokens_per_step is not None and tokens_per_step < 1:
        yield Problem(("tokens_per_step",), f"{tokens_per_step} is not positive")
    yield from schedule_problems(args)
    yield from _patch_problems(args, patches)


def _range_problems(key: str, value: Any) -> Iterator[Problem]:
    """What torch would refuse when the stage comes to it, or train with to no use."""
    if key in COUNTS and value <= 0:
        yield Problem(("args", key), f"{value} is not positive")
    elif key in RATES and not 0 <= value < math.inf:
        yield Problem(("args", key), f"{value} is no number from 0 up")
    elif key in NATURAL and value < 0:
        yield Problem(("args", key), f"{value} is negative")
    elif key in BETAS and not 0 <= value < 1:
        yield Problem(("args", key), f"{value} is not at least 0 and below 1")
    elif key == "label_smoothing_factor" and not 0 <= value < 1:
        yield Problem(("args", key), f"{value} is no share from 0 up and below 1")


def _patch_problems(args: Mapping[str, Any], patches: Patches) -> Iterator[Problem]:
    if args.get("label_smoothing_factor") and "fused_head_loss" in patches:
        what = "needs the logits, which fused_head_loss never makes"
        remedy = "set it to 0, or leave fused_head_loss out of `patches`"
        yield Problem(("args", "label_smoothing_factor"), what, remedy)
    if patches not in ("auto", "none"):
        try:
            check_names(patches)
        except UserError as error:
            yield Problem(("patches",), error.what, error.remedy)
