"""The keys that a schedule takes, held against transformers' own functions, called."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import subprocess
import sys
from typing import Any

import pytest
import torch
from transformers import SchedulerType, get_scheduler
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

from llmkit.trainers.schedules import keys_of, schedule_problems

WORDS = [member.value for member in SchedulerType]
KEYS = {key for word in WORDS for key in keys_of(word) or ()}
GIVEN = {"num_warmup_steps", "num_training_steps", "last_epoch", "optimizer"}


def _problems(schedule: str | None, **kwargs: Any) -> list[str]:
    args: dict[str, Any] = {"lr_scheduler_kwargs": kwargs} if kwargs else {}
    args |= {"lr_scheduler_type": schedule} if schedule else {}
    return [str(problem).removeprefix("args.") for problem in schedule_problems(args)]


def _refuses(schedule: str, **kwargs: Any) -> bool:
    """Whether transformers has no such argument; what it says of values is another matter."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    try:
        get_scheduler(schedule, optimizer, 1, 10, scheduler_specific_kwargs=kwargs)
    except (TypeError, KeyError):  # a KeyError is what `last_epoch` of a fresh optimizer gives
        return True
    except ValueError:
        pass
    return False


def test_every_schedule_is_read_but_those_that_take_anything() -> None:
    for member, function in TYPE_TO_SCHEDULER_FUNCTION.items():
        signature = inspect.signature(function).parameters
        if any(each.kind is each.VAR_KEYWORD for each in signature.values()):
            assert keys_of(member.value) is None
        else:
            assert keys_of(member.value) == {
                name: each.default is each.empty
                for name, each in signature.items()
                if name not in GIVEN
            }
    assert {"num_decay_steps", "num_cycles", "min_lr_rate", "power", "timescale"} <= KEYS


@pytest.mark.filterwarnings("ignore:Both num_training_steps and num_stable_steps:UserWarning")
@pytest.mark.parametrize("key", sorted({*KEYS, *GIVEN, "num_decay_step"}))
@pytest.mark.parametrize("schedule", [word for word in WORDS if keys_of(word) is not None])
def test_what_is_refused_is_what_transformers_refuses(schedule: str, key: str) -> None:
    needed = {name: 2 for name, must in (keys_of(schedule) or {}).items() if must}
    if "min_lr" in schedule and key not in ("min_lr", "min_lr_rate"):
        needed["min_lr"] = 0  # of the two one must be given, which no signature tells
    told = _problems(schedule, **{**needed, key: 1})
    # These two drop what they are given in silence, so no key has any meaning for them.
    deaf = schedule in ("constant", "constant_with_warmup")
    assert bool(told) == (deaf or _refuses(schedule, **{**needed, key: 1})), told
    assert all(problem.startswith(f"lr_scheduler_kwargs.{key}: ") for problem in told)


@pytest.mark.parametrize("schedule", ["cosine_with_min_lr", "cosine_warmup_with_min_lr"])
def test_one_lowest_rate_is_needed(schedule: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    for given in ({}, {"min_lr": 0.1}, {"min_lr_rate": 0.1}, {"min_lr": 0.1, "min_lr_rate": 0.1}):
        told = _problems(schedule, **given)
        try:
            get_scheduler(schedule, optimizer, 1, 10, scheduler_specific_kwargs=given)
        except ValueError as error:
            assert "min_lr_rate should be set" in str(error)
            word = "both" if given else "neither"
            assert told[0].startswith(
                f"lr_scheduler_kwargs: gives {word} of min_lr and min_lr_rate"
            )
        else:
            assert told == []


@pytest.mark.filterwarnings("ignore:Both num_training_steps and num_stable_steps:UserWarning")
@pytest.mark.parametrize("schedule", WORDS)
def test_what_never_peaks_is_told(schedule: str) -> None:
    """The truth is each step's rate, of the schedule that transformers itself makes."""
    steps = 12
    for warmup, decay in itertools.product((0, 0.5, 1, 5, 11, 12, 40), (1, 6, 7, 12, 30)):
        wsd = schedule == "warmup_stable_decay"
        given = {"num_decay_steps": decay} if wsd else {}
        if "min_lr" in schedule:
            given = {"min_lr_rate": 0.1}
        args = {"lr_scheduler_type": schedule, "lr_scheduler_kwargs": given}
        told = list(schedule_problems({**args, "warmup_steps": warmup, "max_steps": steps}))
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        rise = int(warmup) if warmup >= 1 else round(warmup * steps)
        made = get_scheduler(schedule, optimizer, rise, steps, scheduler_specific_kwargs=given)
        rates = []
        with contextlib.suppress(ZeroDivisionError):  # of a polynomial that has no step to fall in
            for _ in range(steps):
                rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                made.step(0.0) if schedule in ("reduce_lr_on_plateau", "greedy") else made.step()
        early = schedule == "cosine_warmup_with_min_lr"  # all of it a step before its time
        if not (early and warmup == steps):  # refused, though its very last step is its peak
            assert bool(told) == (max(rates) < (0.95 if early else 1.0)), (warmup, decay, rates)
        assert not list(schedule_problems({**args, "warmup_steps": warmup}))
    if schedule == "cosine":
        (problem,) = schedule_problems({**args, "warmup_steps": 12, "max_steps": 12})
        assert problem.path == ("args", "warmup_steps") and "at most 11" in problem.remedy


def _rates(schedule: str, steps: int, **kwargs: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    made = get_scheduler(schedule, optimizer, 1, steps, scheduler_specific_kwargs=kwargs)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        made.step()
    return rates


def test_figures_that_would_be_taken_in_silence_are_told() -> None:
    wsd, cosine = "warmup_stable_decay", "cosine_with_min_lr"
    assert set(_rates(wsd, 12, num_decay_steps=-5)[1:]) == {1.0}, "it never falls"
    assert _problems(wsd, num_decay_steps=-5) == [
        "lr_scheduler_kwargs.num_decay_steps: -5 is no number of steps from 0 up"
    ]
    assert len(_problems(wsd, num_decay_steps=0, num_stable_steps=-1)) == 1
    assert max(_rates(cosine, 12, min_lr_rate=1.5)) > 1.2, "it rises above its peak"
    assert _rates(cosine, 12, min_lr_rate=-0.5)[-2:] == [0.0, 0.0], "it is over before its end"
    for value in (1.5, -0.5, float("nan")):
        assert _problems(cosine, min_lr_rate=value) == [
            f"lr_scheduler_kwargs.min_lr_rate: {value} is no share of the peak, from 0 to 1"
        ]
        assert len(_problems(wsd, num_decay_steps=3, min_lr_ratio=value)) == 1
    for value in (0, 0.1, 1):
        assert _problems(cosine, min_lr_rate=value) == []
        assert _problems(wsd, num_decay_steps=3, min_lr_ratio=value) == []


def test_the_words_name_the_remedy() -> None:
    wsd = "warmup_stable_decay"
    assert _problems(wsd, num_decay_steps=3, decay_type="linear") == []
    assert _problems(wsd, num_decay_step=3) == [
        f"lr_scheduler_kwargs.num_decay_step: no such key in the schedule {wsd};"
        " did you mean num_decay_steps?"
    ]
    assert _problems("inverse_sqrt", power=2.0) == [
        "lr_scheduler_kwargs.power: no such key in the schedule inverse_sqrt;"
        " inverse_sqrt takes timescale; polynomial would take power"
    ]
    (told,) = _problems(wsd, num_decay_steps=3, num_training_steps=9)
    assert "the trainer gives it itself; give max_steps" in told
    assert _problems(wsd) == [
        f"lr_scheduler_kwargs: lacks num_decay_steps; the schedule {wsd} needs it"
    ]
    assert _refuses(wsd)


def test_without_a_type_it_is_transformers_default() -> None:
    assert _problems(None) == []
    (told,) = _problems(None, num_cycles=2)
    assert "no such key in the schedule linear; linear takes none" in told
    assert "cosine_with_restarts" in told


def test_json_is_read_as_transformers_reads_it() -> None:
    args = {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": '{"num_cycle": 2}'}
    (problem,) = schedule_problems(args)
    assert problem.remedy == "did you mean num_cycles?"
    assert list(schedule_problems(args | {"lr_scheduler_kwargs": "a file"})) == []


def test_nothing_is_said_of_what_is_not_in_the_table() -> None:
    for schedule in ("reduce_lr_on_plateau", "greedy", "of_a_later_version"):
        assert _problems(schedule, anything=1) == []


def test_reading_imports_no_library() -> None:
    code = (
        "import sys; from llmkit.trainers.schedules import keys_of;"
        "assert keys_of('warmup_stable_decay');"
        "heavy = {'torch', 'transformers', 'trl'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
