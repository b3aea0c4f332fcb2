"""What a run folder has to say for itself, read from the files of its finished stages.

Only `stage.json` is needed; a part whose file is not there is absent from the page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmkit.errors import InputError
from llmkit.report.charts import Chart, charts
from llmkit.run_dir import RECORD, RUN_RECORD, read_json

SAMPLES_PER_REASON = 3
REMEDY = "run the stage again with --force"


@dataclass(frozen=True)
class StageContents:
    """One finished stage: its record and what else lies in its folder (empty where nothing)."""

    name: str
    record: dict[str, Any]
    charts: list[Chart]
    funnel: dict[str, Any]  # curate's stats.json
    removed: dict[str, list[dict[str, Any]]]  # reason -> {text, figure, id, detail, kept_text}
    evaluations: dict[str, dict[str, dict[str, float]]]  # model -> task/metric -> value, low, high
    samples: list[dict[str, Any]]  # {model, task, prompt, answer, completion, scores}
    rollouts: list[dict[str, Any]]  # {step, prompt, completion}, while it was trained; reward
    compression: dict[str, Any] = field(default_factory=dict)  # a tokenizer's logs/compression.json


def read_run(folder: Path) -> tuple[dict[str, Any], list[StageContents]]:
    """`run.json` (empty where there is none) and the finished stages in the recipe's order.

    Raises InputError where the folder holds no finished stage, or a broken record.
    """
    record = read_json(folder / RUN_RECORD, REMEDY) if (folder / RUN_RECORD).is_file() else {}
    found = {path.parent.name: path.parent for path in sorted(folder.glob(f"[!.]*/{RECORD}"))}
    if not found:
        raise InputError(str(folder), "holds no finished stage", "run its recipe first")
    records = {name: read_json(path / RECORD, REMEDY) for name, path in found.items()}
    ordered = [name for name in record.get("stages", {}) if name in found]
    ordered += [name for name in _by_parents(records) if name not in ordered]
    return record, [_read_stage(found[name], records[name]) for name in ordered]


def _by_parents(records: Mapping[str, dict[str, Any]]) -> list[str]:
    """Names with every stage after those it was made from."""
    ordered: list[str] = []
    while len(ordered) < len(records):
        waiting = [name for name in records if name not in ordered]
        ready = [
            name
            for name in waiting
            if not any(parent in waiting for parent in records[name].get("parents", ()))
        ]
        ordered.append((ready or waiting)[0])  # a circle in edited records still ends
    return ordered


def _read_stage(folder: Path, record: dict[str, Any]) -> StageContents:
    stats, metrics = folder / "stats.json", folder / "metrics.json"
    compression = folder / "logs" / "compression.json"
    return StageContents(
        name=folder.name,
        record=record,
        charts=charts(read_lines(folder / "logs" / "train.jsonl")),
        funnel=read_json(stats, REMEDY) if stats.is_file() else {},
        removed=removed_samples(folder / "removed_samples.jsonl"),
        evaluations=read_json(metrics, REMEDY) if metrics.is_file() else {},
        samples=read_lines(folder / "samples.jsonl") + _completions(folder, record),
        rollouts=read_lines(folder / "logs" / "completions.jsonl")
        + read_lines(folder / "logs" / "samples.jsonl"),
        compression=read_json(compression, REMEDY) if compression.is_file() else {},
    )


def _completions(folder: Path, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a stage wrote that asks one model alone; the rows do not say which."""
    model = ((record.get("parts") or {}).get("stage") or {}).get("model")
    who = folder.name if model is None else f"{model} ({folder.name})"
    return [{"model": who, **row} for row in read_lines(folder / "completions.jsonl")]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The mappings of a JSONL file; none where it is absent."""
    if not path.is_file():
        return []
    rows = []
    # Not splitlines: a text may hold U+2028 and its like, which JSON does not escape.
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # a log line that a kill cut short
        if isinstance(row, dict):
            rows.append(row)
    return rows


def removed_samples(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The first few sampled rows of each reason."""
    samples: dict[str, list[dict[str, Any]]] = {}
    for row in read_lines(path):
        rows = samples.setdefault(str(row.get("reason")), [])
        if len(rows) < SAMPLES_PER_REASON:
            rows.append(row)
    return samples
