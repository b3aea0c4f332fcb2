"""Which keys the learning-rate schedules of transformers take, and whether they reach their peak.

`get_scheduler` hands `lr_scheduler_kwargs` on as they are, so a key that a schedule does not have
would stop a stage when it begins, and not the recipe check. The keys are read from the installed
source: https://huggingface.co/docs/transformers/main_classes/optimizer_schedules
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from llmkit.errors import Problem
from llmkit.fields import fields_of
from llmkit.source_text import class_named, function_named, value_named
from llmkit.wording import nearest

FUNCTIONS = "transformers/optimization.py"
NAMES = "transformers/trainer_utils.py"
KEY = "lr_scheduler_kwargs"
LEAST = {"min_lr", "min_lr_rate"}  # where a schedule has both, it takes one
STEPS = ("num_decay_steps", "num_stable_steps")
SHARES = ("min_lr_rate", "min_lr_ratio")  # of the peak
# What the trainer hands to a schedule itself -> where a person says it.
GIVEN = {
    "optimizer": "leave it out",
    "num_warmup_steps": "give warmup_steps in args",
    "num_training_steps": "give max_steps or num_train_epochs in args",
    "last_epoch": "leave it out: a stage that goes on knows where it stood",
}


@cache
def keys_of(schedule: str) -> dict[str, bool] | None:
    """Key -> whether it must be given, for a word of `lr_scheduler_type`.

    None where the source does not tell: no such schedule in its table, or one that takes anything.
    """
    name = _functions().get(schedule)
    node = function_named(FUNCTIONS, name) if name else None
    if node is None or node.args.kwarg is not None:
        return None
    plain = [*node.args.posonlyargs, *node.args.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(node.args.defaults))
    defaults += node.args.defaults
    pairs = [*zip(plain, defaults, strict=True)]
    pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return {each.arg: default is None for each, default in pairs if each.arg not in GIVEN}


@cache
def _functions() -> dict[str, str]:
    """Word of `lr_scheduler_type` -> function; empty where transformers keeps no such table."""
    names = class_named(NAMES, "SchedulerType")
    table = value_named(FUNCTIONS, "TYPE_TO_SCHEDULER_FUNCTION")
    if names is None or not isinstance(table, ast.Dict):
        return {}
    words = {
        f"SchedulerType.{ast.unparse(line.targets[0])}": str(line.value.value)
        for line in names.body
        if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant)
    }
    pairs = zip(table.keys, table.values, strict=True)
    found = {ast.unparse(key): ast.unparse(value) for key, value in pairs if key is not None}
    return {words[member]: function for member, function in found.items() if member in words}


def schedule_problems(args: Mapping[str, Any]) -> Iterator[Problem]:
    """What the schedule of a recipe's `args` would refuse when its stage begins."""
    default = fields_of("transformers.TrainingArguments")["lr_scheduler_type"].default
    schedule = args.get("lr_scheduler_type", default)
    known, given = keys_of(str(schedule)), _mapping(args.get(KEY))
    if known is None or given is None:
        return
    for key in map(str, given):
        if key in GIVEN:
            yield Problem(("args", KEY, key), "the trainer gives it itself", GIVEN[key])
        elif key not in known:
            remedy = nearest(key, known) or _offer(key, schedule, known)
            yield Problem(("args", KEY, key), f"no such key in the schedule {schedule}", remedy)
        else:
            yield from _value_problems(key, given[key])
    missing = [key for key, needed in known.items() if needed and key not in given]
    # A wrong key may be the missing one, misspelt: then the nearest name has been told already.
    if missing and given.keys() <= known.keys():
        remedy = f"the schedule {schedule} needs it"
        yield Problem(("args", KEY), f"lacks {', '.join(missing)}", remedy)
    least = [key for key in LEAST if key in known and given.get(key) is not None]
    if known.keys() >= LEAST and given.keys() <= known.keys() and len(least) != 1:
        what = f"gives {'both' if least else 'neither'} of {' and '.join(sorted(LEAST))}"
        yield Problem(("args", KEY), what, f"the schedule {schedule} needs one of them")
    if args.get("max_steps", -1) > 0:
        yield from peak_problems(str(schedule), args.get("warmup_steps"), given, args["max_steps"])


def _value_problems(key: str, value: Any) -> Iterator[Problem]:
    """Figures that transformers takes in silence, and then goes another way than it was asked."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if key in STEPS and not value >= 0:
        yield Problem(("args", KEY, key), f"{value} is no number of steps from 0 up")
    elif key in SHARES and not 0 <= value <= 1:
        yield Problem(("args", KEY, key), f"{value} is no share of the peak, from 0 to 1")


def peak_problems(
    schedule: str, warmup: float | None, given: Mapping[str, Any], steps: int
) -> Iterator[Problem]:
    """Where a training of so many steps is over before its learning rate stood at its peak.

    Args:
        schedule: a word of `lr_scheduler_type`.
        warmup: steps, or a share of them all below 1; some schedules have none.
        given: `lr_scheduler_kwargs`.
    """
    rise = warmup or 0 if _warms_up(schedule) else 0
    rise = int(rise) if rise >= 1 else math.ceil(rise * steps)
    fall = given.get("num_decay_steps") if "num_stable_steps" not in given else None
    never = "so the learning rate never comes to its peak"
    if rise >= steps:
        what = f"{rise:,} of warmup leave none of the {steps:,} steps, {never}"
        yield Problem(("args", "warmup_steps"), what, _fewer(steps - 1))
    elif isinstance(fall, int) and rise + fall > steps:
        what = (
            f"{fall:,} of decay and {rise:,} of warmup are more than the {steps:,} steps, {never}"
        )
        yield Problem(("args", KEY, "num_decay_steps"), what, _fewer(steps - rise))


@cache
def _warms_up(schedule: str) -> bool:
    node = function_named(FUNCTIONS, _functions().get(schedule, ""))
    plain = [] if node is None else [*node.args.args, *node.args.kwonlyargs]
    return any(each.arg == "num_warmup_steps" for each in plain)


def _fewer(most: int) -> str:
    return f"at most {most:,}, or train for longer"


def _mapping(given: Any) -> Mapping[str, Any] | None:
    """The keys, which transformers also takes as JSON; None for what is none."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except json.JSONDecodeError:
            return None
    given = {} if given is None else given
    return given if isinstance(given, Mapping) else None


def _offer(key: str, schedule: str, known: Mapping[str, bool]) -> str:
    """What the schedule takes, and which ones take the key."""
    others = [name for name in _functions() if key in (keys_of(name) or ())]
    told = f"{schedule} takes {', '.join(known) or 'none'}"
    return f"{told}; {', '.join(others)} would take {key}" if others else told
