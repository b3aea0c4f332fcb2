"""Plain-text tables for a terminal of 80 to 100 columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmkit.run_dir import RECORD

WIDTH = 96  # characters a line
ROWS = 16  # figures after a stage


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


def interval(cell: Mapping[str, float]) -> str:
    """`0.912 [0.884, 0.935]` from {value, low, high}."""
    return f"{cell['value']:#.3g} [{cell['low']:#.3g}, {cell['high']:#.3g}]"


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


def aligned(rows: Sequence[Sequence[str]], right: Collection[int], width: int = WIDTH) -> str:
    """Columns two spaces apart under the first row; the last column is cut at `width`."""
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
    return "\n".join([lines[0], rule, *lines[1:]])
