"""A plan as people read it: a row a stage, and below what has to be said of each."""

from __future__ import annotations

from collections.abc import Sequence

from llmkit.cost.hardware import GIB
from llmkit.planning.stages import StagePlan
from llmkit.tables import aligned

HEADS = (
    "stage",
    "model",
    "steps",
    "tokens",
    "FLOPs/token",
    "memory",
    "MFU",
    "tokens/s",
    "time",
    "cost",
)
ABSENT = "-"
UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
WIDTH = 110


def table(stages: Sequence[StagePlan], hours: float | None, dollars: float | None) -> str:
    """The table, its sum, and the notes."""
    rows = [list(HEADS), *(row(stage) for stage in stages)]
    total = [ABSENT] * len(HEADS)
    total[0], total[-2], total[-1] = "all", duration(hours), money(dollars)
    text = aligned([*rows, total], right=set(range(1, len(HEADS))), width=WIDTH)
    notes = [f"  {stage.name}: {note}" for stage in stages for note in stage.notes]
    return "\n".join([text, *([""] if notes else []), *notes])


def row(stage: StagePlan) -> list[str]:
    memory, speed = stage.memory, stage.speed
    flag = "" if stage.fits is not False else " !"
    return [
        stage.name,
        count(stage.parameters),
        ABSENT if stage.steps is None else f"{stage.steps:,}",
        count(stage.tokens),
        count(stage.flops_per_token),
        ABSENT if memory is None else f"{memory.peak / GIB:.1f} GiB{flag}",
        ABSENT if speed is None else f"{100 * speed.mfu:.1f} %",
        count(None if speed is None else speed.tokens_per_second),
        "stops" if stage.stops else duration(stage.hours),
        money(stage.dollars),
    ]


def count(value: float | None) -> str:
    """`124M`, `9.89B`, `803M`.

    >>> count(124_439_808), count(9_890_693_120), count(950), count(None)
    ('124M', '9.89B', '950', '-')
    """
    if value is None:
        return ABSENT
    for size, unit in UNITS:
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:,.0f}"


def duration(hours: float | None) -> str:
    """`40 s`, `94 min`, `13.7 h`, `5.6 d`.

    >>> duration(0.01), duration(94.3 / 60), duration(13.67), duration(135.1)
    ('36 s', '94 min', '13.7 h', '5.6 d')
    """
    if hours is None:
        return ABSENT
    if hours < 1 / 30:
        return f"{3600 * hours:.0f} s"
    if hours < 2:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} d"


def money(dollars: float | None) -> str:
    """`$0.42`, `$22.0`, `$1,891`."""
    if dollars is None:
        return ABSENT
    if dollars < 10:
        return f"${dollars:.2f}"
    return f"${dollars:.1f}" if dollars < 100 else f"${dollars:,.0f}"
