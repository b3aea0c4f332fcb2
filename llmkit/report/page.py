"""`report.html`: a run on one self-contained page, with nothing fetched from anywhere.

The page is `page.html`, a Jinja template with autoescaping on (https://jinja.palletsprojects.com):
what stands in documents and completions is text there, never markup.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from llmkit.report.contents import StageContents, read_run
from llmkit.tables import figure, seconds

PAGE = "report.html"
LONGEST_SAMPLE = 600  # characters of a removed document or a completion
MOST_ANSWERS = 60  # rows of completions side by side
BAR_PIXELS = 120


def write_report(run_folder: Path) -> Path:
    """Write `report.html` into the run's folder and return its path.

    Raises InputError where the folder holds no finished stage.
    """
    folder = Path(run_folder)
    run, stages = read_run(folder)
    page = folder / PAGE
    unfinished = folder / f".{PAGE}.new"
    unfinished.write_text(render(folder, run, stages), encoding="utf-8")
    unfinished.replace(page)
    return page


def render(folder: Path, run: Mapping[str, Any], stages: list[StageContents]) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    total = sum(_seconds(stage) for stage in stages)
    machines = [stage.record["hardware"] for stage in stages if stage.record.get("hardware")]
    return environment.get_template("page.html").render(
        title=str(run.get("recipe", folder.name)),
        stages=[_stage(stage, total, run) for stage in stages],
        total=seconds(total),
        hardware=_machine(machines[-1] if machines else {}),
        seed=run.get("seed", stages[-1].record.get("seed")),
        commands=_commands(folder, run, stages),
    )


def _stage(stage: StageContents, total: float, run: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows of a stage, as text and percentages."""
    record = stage.record
    gates = record.get("gates") or []
    resolved = record.get("resolved") or (run.get("resolved") or {}).get("stages", {})
    settings = record["resolved"] if "resolved" in record else resolved.get(stage.name)
    origin = {key: record[key] for key in ("versions", "hardware", "git_revision") if key in record}
    return {
        "name": stage.name,
        "anchor": "stage-" + re.sub(r"[^A-Za-z0-9_-]", "-", stage.name),
        "kind": str(record.get("kind", "")),
        "parents": ", ".join(map(str, record.get("parents") or ())),
        "time": seconds(_seconds(stage)),
        "time_percent": _percent(_seconds(stage), total),
        "gates": [{**gate, "measured": figure(gate.get("measured"))} for gate in gates],
        "gates_failed": sum(gate.get("passed") is False for gate in gates),
        "gates_passed": sum(gate.get("passed") is True for gate in gates),
        "metrics": [(name, figure(value)) for name, value in (record.get("metrics") or {}).items()],
        "charts": stage.charts,
        "funnel": _funnel(stage.funnel),
        "truth": _truth(stage.funnel.get("truth") or {}),
        "removed": {
            reason: [_shortened(text) for text in texts] for reason, texts in stage.removed.items()
        },
        "evaluations": _evaluations(stage.evaluations),
        "answers": _answers(stage.answers),
        "settings": _written(settings),
        "origin": _written(origin),
    }


def _funnel(stats: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a step, its bar measured against all the documents that came in."""
    everything = (stats.get("in") or {}).get("documents", 0)
    rows = []
    for step in stats.get("steps") or ():
        came, left = step["in"]["documents"], step["out"]["documents"]
        reasons = step.get("removed") or {}
        rows.append(
            {
                "name": step["step"],
                "documents_in": figure(came),
                "documents_out": figure(left),
                "kept_percent": _percent(left, everything),
                "removed_percent": _percent(came - left, everything),
                "reasons": ", ".join(
                    f"{reason} {count['documents']:,}" for reason, count in reasons.items()
                ),
            }
        )
    return rows


def _truth(truth: Mapping[str, Any]) -> list[dict[str, str]]:
    """Precision and recall of the steps, where the source knows which documents are junk."""
    rates = {**(truth.get("steps") or {}), **({"all": truth["all"]} if "all" in truth else {})}
    columns = ("removed", "precision", "recall")
    return [
        {"name": name, **{column: figure(rate.get(column)) for column in columns}}
        for name, rate in rates.items()
    ]


def _evaluations(metrics: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """Models across, metrics down; empty where nothing was measured."""
    if not metrics:
        return {}
    names = dict.fromkeys(name for of_model in metrics.values() for name in of_model)
    rows = [
        {"name": name, "cells": [_cell(of_model.get(name)) for of_model in metrics.values()]}
        for name in names
    ]
    return {"models": list(metrics), "rows": rows}


def _cell(found: Mapping[str, float] | None) -> dict[str, Any] | None:
    if found is None:
        return None
    value, low, high = found["value"], found.get("low"), found.get("high")
    around = "" if low is None or high is None else f"[{low:#.3g}, {high:#.3g}]"
    count = f" n={found['n']:,}" if "n" in found else ""
    percent = round(BAR_PIXELS * value) if 0 <= value <= 1 else None
    return {"value": f"{value:#.3g}", "interval": around + count, "percent": percent}


def _answers(rows: list[dict[str, Any]]) -> dict[str, Any]:
    shown = [
        {
            "task": row["task"],
            "prompt": _shortened(row["prompt"]),
            "answer": _shortened(row["answer"]),
            "by_model": {model: _shortened(text) for model, text in row["by_model"].items()},
        }
        for row in rows[:MOST_ANSWERS]
    ]
    return {
        "rows": shown,
        "models": list(dict.fromkeys(model for row in shown for model in row["by_model"])),
        "tasks": any(row["task"] for row in shown),
        "known": any(row["answer"] for row in shown),
    }


def _commands(folder: Path, run: Mapping[str, Any], stages: list[StageContents]) -> list[str]:
    recipe = str(run.get("recipe", folder.name))
    again = [f"llmkit run {recipe} --only {stage.name} --force" for stage in stages]
    chats = [f"llmkit chat {recipe}"] if any(s.record.get("kind") == "sft" for s in stages) else []
    return [f"llmkit run {recipe}", *again, *chats]


def _machine(hardware: Mapping[str, Any]) -> str:
    parts = [hardware.get("processor"), *(hardware.get("gpus") or ())]
    if "cores" in hardware:
        parts.append(f"{hardware['cores']} cores")
    if "memory_gb" in hardware:
        parts.append(f"{hardware['memory_gb']} GB")
    return ", ".join(str(part) for part in parts if part)


def _seconds(stage: StageContents) -> float:
    return float(stage.record.get("seconds") or 0.0)


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_SAMPLE else text[:LONGEST_SAMPLE] + " …"


def _written(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str) if value else ""
