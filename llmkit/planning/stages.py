"""A stage's plan: its work on the hardware asked for, in steps, bytes, hours and dollars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmkit.cost.flops import FORWARD, RECOMPUTED, flops_per_token
from llmkit.cost.hardware import CPUS, Hardware
from llmkit.cost.memory import Memory, memory_of
from llmkit.cost.shapes import Shape
from llmkit.cost.speed import Speed, speed_of
from llmkit.planning.fit import remedies
from llmkit.planning.models import Known
from llmkit.planning.step import stops
from llmkit.planning.work import KINDS, NO_STEPS, Settings, Work

FITTED_FROM = 100_000_000  # parameters: GPUs wait for the launches of a smaller model
NOT_ESTIMATED = "time: not estimated"
UNKNOWN_MODEL = "its model's sizes are not known before it runs"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a plan is asked for: hardware, $ an accelerator's hour, and what is known of speed."""

    hardware: Hardware
    price: float | None = None
    mfu: float | None = None
    tokens_per_second: float | None = None


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """What a stage will take; None where nobody can tell, and `notes` say why.

    Attributes:
        parameters: of the model that is trained.
        tokens: read in training, by all ranks, in all steps.
        flops_per_token: forward and backward pass, by llm.c's formula.
        memory: of each rank, at its worst.
        fits: whether that is within what the accelerator has.
        speed: tokens of a step over all the time that it takes, and the MFU that this is.
        hours: of all its steps, generation included.
        stops: whether `llmkit run` would refuse it there; then there is nothing to count.
    """

    name: str
    kind: str
    parameters: int | None = None
    steps: int | None = None
    tokens: int | None = None
    flops_per_token: int | None = None
    memory: Memory | None = None
    fits: bool | None = None
    speed: Speed | None = None
    hours: float | None = None
    dollars: float | None = None
    stops: bool = False
    notes: tuple[str, ...] = ()


def plan_stage(known: Known, wanted: Wanted, profiles: Sequence[str] = ()) -> StagePlan:
    """The plan of a stage; `profiles` are ways to make it fit, in words, that were found before."""
    name, kind, stage, shape = known.name, known.kind, known.stage, known.shape
    if kind not in KINDS:
        return StagePlan(name=name, kind=kind, notes=(*documents_of(stage), NOT_ESTIMATED))
    if shape is None:
        return StagePlan(name=name, kind=kind, notes=(UNKNOWN_MODEL,))
    hardware = wanted.hardware
    work = work_for(known, shape, hardware)
    memory = memory_of(shape, work.load, hardware)
    speed, seconds = time_of(shape, work, wanted)
    fits = memory.peak <= hardware.memory
    ways = () if fits else remedies(shape, work.load, hardware, known.launches, profiles, work.odd)
    stopped = stops(work, hardware)
    steps = None if stopped else work.steps
    hours = None if steps is None or seconds is None else steps * seconds / 3600
    notes = notes_of(work, speed, shape.parameters)
    return StagePlan(
        name=name,
        kind=kind,
        parameters=shape.parameters,
        steps=work.steps,
        tokens=None if steps is None else steps * work.tokens_per_step,
        flops_per_token=flops_per_token(shape, work.context),
        memory=memory,
        fits=fits,
        speed=speed,
        hours=hours,
        dollars=dollars_of(hours, wanted),
        stops=bool(stopped),
        notes=(*no_bf16(stage.args, hardware), *stopped, *notes, *ways),
    )


def work_for(known: Known, shape: Shape, hardware: Hardware) -> Work:
    """The work of a training stage on the hardware."""
    config, work_of = KINDS[known.kind]
    args = known.stage.args
    half = computes_in_half(args, hardware)
    device = "cpu" if hardware.accelerator.name in CPUS else "cuda"
    settings = Settings(known.stage, args, config, hardware.ranks, half, device)
    return work_of(settings, shape, known.context or shape.context)


def documents_of(stage: Any) -> tuple[str, ...]:
    """How many documents a stage curates, where its sources know it."""
    sizes = [source.size for source in getattr(stage, "sources", ())]
    if not sizes or None in sizes:
        return ()
    return (f"{sum(sizes):,} documents to curate at most",)


def dollars_of(hours: float | None, wanted: Wanted) -> float | None:
    """Of all accelerators; None where hours or price are not known."""
    if hours is None or wanted.price is None:
        return None
    return hours * wanted.hardware.count * wanted.price


def computes_in_half(args: dict[str, Any], hardware: Hardware) -> bool:
    """As `llmkit.device.precision_arguments` will choose there: bfloat16 where that is fast."""
    fp16 = bool(args.get("fp16", False))
    return fp16 or bool(args.get("bf16", hardware.accelerator.bf16))


def no_bf16(args: dict[str, Any], hardware: Hardware) -> tuple[str, ...]:
    device = hardware.accelerator
    if not args.get("bf16") or device.bf16 or device.name in CPUS:
        return ()
    change = "set args.bf16: false and args.fp16: true"
    return (f"a {device.name} has no bfloat16, and the stage would stop: {change}",)


def time_of(shape: Shape, work: Work, wanted: Wanted) -> tuple[Speed | None, float | None]:
    """Tokens/s of a whole step, and the seconds that it takes.

    A speed, given or predicted, is that of training. The passes of models that only look, and
    sampling, come on top.
    """
    hardware = wanted.hardware
    given = wanted.mfu is not None or wanted.tokens_per_second is not None
    if not work.load.half and not given and hardware.accelerator.name not in CPUS:
        return None, None
    recompute = work.load.recompute
    training = speed_of(
        shape, work.context, hardware, wanted.mfu, wanted.tokens_per_second, recompute
    )
    forward = FORWARD / (RECOMPUTED if recompute else 1)  # of a pass of training
    passes = work.trainings + forward * work.forwards
    seconds = work.tokens_per_step * passes / training.tokens_per_second
    seconds += sampling_seconds(shape, work, hardware)
    return training.at(work.tokens_per_step / seconds), seconds


def sampling_seconds(shape: Shape, work: Work, hardware: Hardware) -> float:
    """Of a step's completions: for every new token of a batch all weights are read once, and the
    keys and values of each row. No loop is faster than that; a small model's is slower."""
    if not work.generated:
        return 0.0
    size = 2 if work.load.half else 4
    cache = 2 * shape.layers * shape.key_width * size * work.context / 2
    a_token = size * shape.parameters / work.at_once + cache
    cores = hardware.count if hardware.ranks == 1 else 1
    return work.generated * a_token / (hardware.accelerator.bandwidth * cores)


def notes_of(work: Work, speed: Speed | None, parameters: int) -> list[str]:
    notes = []
    if work.steps is None:
        notes.append(NO_STEPS)
    if speed is None:
        notes.append("time: float32 on this GPU is not estimated; set args.bf16 or args.fp16")
    elif speed.why.startswith("published"):
        notes.append(f"speed {speed.why}")
    elif speed.why == "predicted" and parameters < FITTED_FROM:
        notes.append("a model far smaller than those the speed is fitted to: it will be slower")
    if speed is not None and work.load.recompute and not speed.given:
        notes.append(
            "its activations are recomputed, which is counted: three quarters of the speed"
        )
    if speed is not None and (work.trainings > 1 or work.forwards or work.generated):
        notes.append("tokens/s and MFU are of the whole step: all models' passes, and sampling")
    if work.at_most:
        notes.append("at most: rows are counted as long as they may be")
    if work.generated:
        notes.append("sampling is counted at the speed of the memory, which small models miss")
    return notes
