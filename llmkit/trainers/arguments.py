"""From a recipe's `args:` to the Hugging Face arguments object, the same way for every stage.

What the user wrote stands. What is missing gets llmkit's defaults: quiet logs (our own progress
replaces the printers), a checkpoint every tenth of the way, the precision this machine is fast in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from llmkit.device import precision_arguments
from llmkit.errors import UserError
from llmkit.ranks import promised
from llmkit.trainers.refusals import refused

A = TypeVar("A")

DEFAULTS: dict[str, Any] = {
    "report_to": "none",
    "disable_tqdm": True,
    "logging_steps": 10,
    "save_strategy": "steps",
    "save_steps": 0.1,  # of all steps
    "save_total_limit": 2,  # the newest may be the one that a kill broke
    # The trainer would look for unused weights in every step, and these models have none.
    "ddp_find_unused_parameters": False,
    # It would hide a non-finite loss (and cost two host syncs a batch); `Guarded` stops instead.
    "logging_nan_inf_filter": False,
}


def training_arguments(
    cls: type[A], args: Mapping[str, Any], context_out: Path, seed: int, where: str = "args"
) -> A:
    """Build `cls` (TrainingArguments or a TRL config) from a recipe's `args`.

    Args:
        cls: the Hugging Face arguments class.
        args: its keyword arguments, names and types already checked.
        context_out: the stage's folder; checkpoints go to `scratch/checkpoints` in it.
        seed: of model, data order and dropout.
        where: the recipe path that an error names, `"pretrain.args"`.

    Raises:
        UserError: the class refuses a value or a combination, or ranks are missing.
    """
    given = DEFAULTS | precision_arguments(args) | checkpointing(cls, args)
    if "per_device_eval_batch_size" not in given and "per_device_train_batch_size" in given:
        given["per_device_eval_batch_size"] = given["per_device_train_batch_size"]
    given |= {
        "output_dir": str(context_out / "scratch" / "checkpoints"),
        "seed": seed,
        "data_seed": seed,
    }
    with refused(where, cls.__name__, "change these keys"):
        arguments = cls(**given)
    check_schedule(arguments, where)
    check_ranks(arguments, where)
    return arguments


def checkpointing(cls: Any, args: Mapping[str, Any]) -> dict[str, Any]:
    """`args` with recomputation of activations by the name that `cls` wants; off where unsaid.

    TRL's configs turn it on, by a name that transformers has deprecated; it costs a third of the
    speed to save memory, which is the user's to choose.
    """
    given = dict(args)
    names = {field.name for field in fields(cls)}
    if "activation_checkpointing" not in names:
        return {"gradient_checkpointing": False} | given
    for new in ("activation_checkpointing", "activation_checkpointing_kwargs"):
        old = new.replace("activation", "gradient")
        if old in given and new not in given:
            given[new] = given.pop(old)
    return {"activation_checkpointing": False} | given


def check_schedule(arguments: Any, where: str) -> None:
    """Make the learning-rate schedule once for nothing: what would stop its stage is told now."""
    import torch
    from transformers import get_scheduler

    steps = arguments.max_steps if arguments.max_steps > 0 else 1000
    with refused(where, "the learning-rate schedule", "change lr_scheduler_kwargs"):
        get_scheduler(
            arguments.lr_scheduler_type,
            torch.optim.SGD([torch.zeros(1)], lr=arguments.learning_rate),
            num_warmup_steps=arguments.get_warmup_steps(steps),
            num_training_steps=steps,
            scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,
        )


def check_ranks(arguments: Any, where: str) -> None:
    """Raise UserError where a launcher promised ranks that did not come together.

    Two processes that do not know of one another are two whole trainings into one folder.
    """
    started = promised(os.environ)
    if arguments.world_size != started:
        raise UserError(
            where,
            f"the launcher promised {started} ranks, and there are {arguments.world_size}",
            "on CPUs launch with ACCELERATE_USE_CPU=true; see accelerate_configs/",
        )


def accumulation_steps(
    tokens_per_step: int, batch_size: int, context_length: int, ranks: int, where: str
) -> int:
    """`gradient_accumulation_steps` so that an update sees `tokens_per_step` tokens over all ranks.

    Raises:
        UserError: `tokens_per_step` is not a multiple of what one forward pass of all ranks takes.
    """
    at_once = batch_size * context_length * ranks
    steps, rest = divmod(tokens_per_step, at_once)
    if rest or not steps:
        raise UserError(
            where,
            f"{tokens_per_step:,} tokens are no multiple of the {at_once:,} of one pass "
            f"({batch_size} rows x {context_length} tokens x {ranks} ranks)",
            f"try {max(steps, 1) * at_once:,}, or another per_device_train_batch_size",
        )
    return steps
