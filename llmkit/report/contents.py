"""What a run folder has to say for itself, read from the files of its finished stages.

Only `stage.json` is needed; a part whose file is not there is absent from the page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from llmkit.errors import InputError
from llmkit.report.curves import Points, curve
from llmkit.run_dir import RECORD, RUN_RECORD, read_json

# Title of a chart -> the trainer's names of what stands in it, each drawn where it was logged.
CHARTS = {
    "loss": ("loss", "eval_loss"),
    "bits per byte": ("eval_bits_per_byte",),
    "token accuracy": ("mean_token_accuracy", "eval_mean_token_accuracy"),
    "reward": ("reward", "objective/rlhf_reward", "eval_reward"),
    "KL to the reference": ("kl", "objective/kl"),
    "gradient norm": ("grad_norm",),
    "learning rate": ("learning_rate",),
}
SAMPLES_PER_REASON = 3
REMOVED_ROWS_READ = 50_000  # of removed/, in which samples are looked for
REMEDY = "run the stage again with --force"


@dataclass(frozen=True)
class Chart:
    """A drawing, and what its last points are: label -> value."""

    title: str
    svg: str
    last: dict[str, float]


@dataclass(frozen=True)
class StageContents:
    """One finished stage: its record and what else lies in its folder (empty where nothing)."""

    name: str
    record: dict[str, Any]
    charts: list[Chart]
    funnel: dict[str, Any]  # curate's stats.json
    removed: dict[str, list[str]]  # reason -> texts
    evaluations: dict[str, dict[str, dict[str, float]]]  # model -> task/metric -> value, low, high
    answers: list[dict[str, Any]]  # {task, prompt, answer, by_model: {model: completion}}


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
    return StageContents(
        name=folder.name,
        record=record,
        charts=charts(read_lines(folder / "logs" / "train.jsonl")),
        funnel=read_json(stats, REMEDY) if stats.is_file() else {},
        removed=removed_samples(folder / "removed"),
        evaluations=read_json(metrics, REMEDY) if metrics.is_file() else {},
        answers=answers(
            read_lines(folder / "samples.jsonl") + read_lines(folder / "completions.jsonl")
        ),
    )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The mappings of a JSONL file; none where it is absent."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # a log line that a kill cut short
        if isinstance(row, dict):
            rows.append(row)
    return rows


def charts(log: list[dict[str, Any]]) -> list[Chart]:
    """A chart for each of CHARTS that the trainer logged. A step that was logged twice (before
    and after a resume) counts as it was logged last."""
    drawn = []
    for title, names in CHARTS.items():
        series: dict[str, Points] = {}
        for name in names:
            by_step = {
                float(row["step"]): float(row[name])
                for row in log
                if isinstance(row.get(name), int | float) and isinstance(row.get("step"), int)
            }
            if by_step:
                series[name] = sorted(by_step.items())
        svg = curve(series, "step")
        if svg:
            drawn.append(
                Chart(title, svg, {name: points[-1][1] for name, points in series.items()})
            )
    return drawn


def removed_samples(folder: Path) -> dict[str, list[str]]:
    """The first few removed texts of each reason."""
    samples: dict[str, list[str]] = {}
    rows = 0
    for path in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(1024, columns=["reason", "text"]):
                for row in batch.to_pylist():
                    texts = samples.setdefault(str(row["reason"]), [])
                    if len(texts) < SAMPLES_PER_REASON:
                        texts.append(str(row["text"]))
                rows += batch.num_rows
                if rows >= REMOVED_ROWS_READ:
                    return samples
    return samples


def answers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Completions of the same prompt side by side, in the order of their first appearance."""
    together: dict[str, dict[str, Any]] = {}
    for row in rows:
        if "prompt" not in row or "completion" not in row:
            continue
        task = str(row.get("task", ""))
        prompt = spoken(row["prompt"])
        entry = together.setdefault(
            json.dumps([task, prompt]),
            {"task": task, "prompt": prompt, "answer": "", "by_model": {}},
        )
        entry["answer"] = entry["answer"] or spoken(row.get("answer"))
        entry["by_model"].setdefault(str(row.get("model", "")), spoken(row["completion"]))
    return list(together.values())


def spoken(value: Any) -> str:
    """A prompt or completion as text: a string as it is, messages as `role: content` lines."""
    if isinstance(value, list):
        return "\n".join(
            f"{item.get('role', '')}: {item.get('content', '')}"
            if isinstance(item, dict)
            else str(item)
            for item in value
        )
    return "" if value is None else str(value)
