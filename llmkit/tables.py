"""Plain-text tables for a terminal of 80 to 100 columns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.run_dir import RECORD

WIDTH = 96  # characters a line
WIDEST = 110  # of the table of models, which is not cut
ROWS = 16  # figures after a stage
ENDED = "ended"  # of an answer: no answer's worth is told by it alone
ABSENT = "-"
# What a figure means where the metric's own name does not say it.
HEADINGS = {"tinyworld_facts/refused": "wrongly refused"}

Cell = Mapping[str, float]  # value, low, high, n
Metrics = Mapping[str, Mapping[str, Cell]]  # model -> "task/metric" -> cell


@dataclass(frozen=True)
class Column:
    """A metric of a task: one column of the table of models.

    Attributes:
        key: `task/metric`, as `metrics.json` has it.
        question: the task, shortened where no other task is then named the same.
        heading: the metric, in words.
        main: whether it is the figure that the task is known by.
    """

    key: str
    question: str
    heading: str
    main: bool


def seconds(value: float) -> str:
    """`0.4 s`, `42 s`, `4 min 05 s`, `1 h 02 min`."""
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def figure(value: Any) -> str:
    """A metric for people: four significant digits, thousands apart, yes and no, lists by commas.

    >>> figure(70123), figure(0.81234), figure(True), figure(None), figure({"a": 1.5})
    ('70,123', '0.8123', 'yes', '-', 'a 1.5')
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {figure(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(figure(item) for item in value)
    return str(value)


def decimals(value: float) -> str:
    """Three decimals, a share without its zero; one from ten on.

    >>> decimals(0.93), decimals(1.0), decimals(-0.0421), decimals(2.5), decimals(1234.56)
    ('.930', '1.000', '-.042', '2.500', '1,234.6')
    """
    text = f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}"
    return re.sub(r"^(-?)0\.", r"\1.", text)


def interval(cell: Cell) -> str:
    """`.912 [.884, .935]` from {value, low, high}."""
    low, high = decimals(cell["low"]), decimals(cell["high"])
    return f"{decimals(cell['value'])} [{low}, {high}]"


def single(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The metrics that are one value each, for people, in the order the stage gave them."""
    return {
        name: figure(value)
        for name, value in metrics.items()
        if not isinstance(value, (Mapping, list, tuple))
    }


def after_stage(
    metrics: Mapping[str, Any], gates: Sequence[Mapping[str, Any]], took: float, folder: Path
) -> str:
    """The small table after a stage: its figures, its gates, its time.

    Where there are many figures, those of parts (`part/figure`) are left to `stage.json`.
    """
    rows = single(metrics)
    if len(rows) > ROWS:
        chosen = [name for name in rows if "/" not in name][:ROWS]
        more = f"and {len(rows) - len(chosen)} more figures in {folder / RECORD}"
        rows = {name: rows[name] for name in chosen} | {"...": more}
    failed = [str(gate["gate"]) for gate in gates if gate["passed"] is False]
    unmeasured = [str(gate["gate"]) for gate in gates if gate["passed"] is None]
    if gates:
        passed = f"{len(gates) - len(failed) - len(unmeasured)} of {len(gates)} passed"
        passed += f"; NOT: {', '.join(failed)}" if failed else ""
        rows["gates"] = passed + (f"; not measured: {', '.join(unmeasured)}" if unmeasured else "")
    rows["time"] = seconds(took)
    width = max(map(len, rows))
    return "\n".join(f"      {name.ljust(width)}  {value}" for name, value in rows.items())


def shortened(text: str, width: int) -> str:
    """Cut at the last comma that fits, so that no figure is cut in two."""
    if len(text) <= width:
        return text
    whole = text[: max(width - 4, 0)].rpartition(", ")[0]
    return f"{whole}, ..." if whole else text[: max(width - 3, 0)] + "..."


def aligned(
    rows: Sequence[Sequence[str]], right: Collection[int], width: int = WIDTH, heads: int = 1
) -> str:
    """Columns two spaces apart under the first `heads` rows; the last column is cut at `width`."""
    columns = list(zip(*rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    widths[-1] = max(min(widths[-1], width - sum(widths[:-1]) - 2 * (len(widths) - 1)), 12)
    rule = "  ".join("-" * size for size in widths)
    lines = []
    for row in rows:
        cells = [*row[:-1], shortened(row[-1], widths[-1])]
        lines.append(
            "  ".join(
                cell.rjust(size) if index in right else cell.ljust(size)
                for index, (cell, size) in enumerate(zip(cells, widths, strict=True))
            ).rstrip()
        )
    return "\n".join([*lines[:heads], rule, *lines[heads:]])


def columns(metrics: Metrics) -> list[Column]:
    """The columns of the table of models: a main one for each task, then all the others.

    A task's main metric is its first one that is not `ended`.
    """
    keys = list(dict.fromkeys(key for figures in metrics.values() for key in figures))
    main: dict[str, str] = {}
    for key in sorted(keys, key=lambda key: key.endswith(f"/{ENDED}")):
        main.setdefault(key.rpartition("/")[0], key)
    short = {task: task.removeprefix("tinyworld_") for task in main}
    taken = Counter(short.values())
    found = []
    for key in keys:
        task, _, metric = key.rpartition("/")
        question = short[task] if taken[short[task]] == 1 else task
        heading = "" if metric == question else HEADINGS.get(key, metric.replace("_", " "))
        found.append(Column(key, question, heading, key == main[task]))
    return sorted(found, key=lambda column: not column.main)


def in_order(metrics: Metrics, stages: Iterable[str]) -> dict[str, Mapping[str, Cell]]:
    """The models in the order of the run's stages; those of elsewhere stay where they are, last."""
    places = {name: place for place, name in enumerate(stages)}
    return {
        name: metrics[name] for name in sorted(metrics, key=lambda n: places.get(n, len(places)))
    }


def pair_cells(figures: Mapping[str, Any]) -> dict[str, Cell]:
    """What a stage measured on held-out preference pairs, as columns; empty where it did not.

    All pairs first, then judging by length alone, which knows nothing, then each kind of pair.
    """
    named = {"all pairs": "accuracy", "length alone": "length_baseline"}
    if not all(f"{name}_low" in figures for name in named.values()):
        return {}
    cells = {
        f"{column}/accuracy": {
            "value": figures[name],
            "low": figures[f"{name}_low"],
            "high": figures[f"{name}_high"],
        }
        for column, name in named.items()
    }
    by_kind = figures.get("accuracy_by_kind", {})
    return cells | {f"{kind or 'other'}/accuracy": cell for kind, cell in by_kind.items()}


def metrics_table(metrics: Metrics, width: int = WIDEST) -> str:
    """A row a model and a column a question type, `value [low, high]` in each cell.

    What does not fit beside one another follows below: first what each question type is known by,
    then the other figures, without the models that have none of them.
    """
    found = columns(metrics)
    sized = {column: _cells(metrics, column) for column in found}
    room = width - max(map(len, ["model", *metrics]))
    if sum(_size(cells) for cells in sized.values()) <= room:
        groups = [found]
    else:
        groups = [[c for c in found if c.main], [c for c in found if not c.main]]
    blocks = [block for group in groups for block in _blocks(group, sized, room)]
    return "\n\n".join(
        _block(metrics, block, sized, whole=number == 0) for number, block in enumerate(blocks)
    )


def _cells(metrics: Metrics, column: Column) -> list[str]:
    """A column from its two headings down."""
    cells = [figures.get(column.key) for figures in metrics.values()]
    said = [ABSENT if cell is None else interval(cell) for cell in cells]
    return [column.question, column.heading, *said]


def _size(cells: Sequence[str]) -> int:
    return 2 + max(map(len, cells))


def _blocks(
    group: Sequence[Column], sized: Mapping[Column, Sequence[str]], room: int
) -> list[list[Column]]:
    """The columns in as many pieces as it takes for each to fit into `room`."""
    blocks: list[list[Column]] = []
    used = 0
    for column in group:
        size = _size(sized[column])
        if not blocks or used + size > room:
            blocks.append([])
            used = 0
        blocks[-1].append(column)
        used += size
    return blocks


def _block(
    metrics: Metrics, block: Sequence[Column], sized: Mapping[Column, Sequence[str]], whole: bool
) -> str:
    rows = list(zip(["model", "", *metrics], *(sized[column] for column in block), strict=True))
    heads, models = rows[:2], rows[2:]
    if not whole:
        models = [row for row in models if any(cell != ABSENT for cell in row[1:])]
    return aligned([*heads, *models], right=set(), width=10**6, heads=2)
