"""What the page's template shows, made of a run's contents: texts, percentages and tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from itertools import groupby
from typing import Any

from llmkit.report.contents import StageContents
from llmkit.report.samples import shortened, while_trained
from llmkit.report.tokens import tokenizer_section
from llmkit.tables import (
    Cell,
    Column,
    Metrics,
    columns,
    decimals,
    figure,
    in_order,
    pair_cells,
    seconds,
)

# Metrics that are no share of anything, so that a bar from 0 to 1 would say nothing.
NO_SHARES = ("bits_per_byte", "nats_per_token")
PAIRS = ("accuracy", "length_baseline")  # how the figures begin that the table of pairs holds
COMPRESSION = ("bytes_per_token/",)  # and those that the table of a tokenizer holds
BESIDE = 6  # columns of results: beside the models' names they fit into a page 1,280 pixels wide
FEW = 8  # figures of parts that are shown among the others


def stage_section(stage: StageContents, total: float) -> dict[str, Any]:
    """A finished stage; `total` is the time of all, in seconds."""
    record = stage.record
    gates = record.get("gates") or []
    figures, parts = _figures(stage)
    origin = {key: record[key] for key in ("versions", "hardware", "git_revision") if key in record}
    return {
        "name": stage.name,
        "anchor": "stage-" + re.sub(r"[^A-Za-z0-9_-]", "-", stage.name),
        "kind": str(record.get("kind", "")),
        "parents": ", ".join(map(str, record.get("parents") or ())),
        "time": seconds(took(stage)),
        "time_percent": percent(took(stage), total),
        "resumed": bool(record.get("resumed")),
        "tokens": "" if record.get("tokens") is None else figure(record["tokens"]),
        "cost": "" if record.get("cost") is None else f"${record['cost']:,.2f}",
        "gates": [{**gate, "measured": figure(gate.get("measured"))} for gate in gates],
        "gates_failed": sum(gate.get("passed") is False for gate in gates),
        "gates_passed": sum(gate.get("passed") is True for gate in gates),
        "metrics": figures,
        "parts": parts,
        "charts": stage.charts,
        "funnel": _funnel(stage.funnel),
        "truth": _truth(stage.funnel.get("truth") or {}),
        "removed": _removed(stage),
        "tokenizer": tokenizer_section(stage.compression),
        "rollouts": while_trained(stage.rollouts),
        "settings": written((record.get("parts") or {}).get("stage")),
        "origin": written(origin),
    }


def _figures(stage: StageContents) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What the stage returned, for people; and those of its parts (`part/figure`) where many are.

    What the tables of results hold is not said again.
    """
    metrics = stage.record.get("metrics") or {}
    said: tuple[str, ...] = PAIRS if pair_cells(metrics) else ()
    said += COMPRESSION if stage.compression else ()
    rows = [(n, figure(value)) for n, value in metrics.items() if not n.startswith(said)]
    if stage.evaluations:
        return [], []
    parts = [row for row in rows if "/" in row[0]]
    if len(parts) <= FEW:
        return rows, []
    return [row for row in rows if row not in parts], parts


def _funnel(stats: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a step, its bar measured against all the documents that came in."""
    everything = (stats.get("in") or {}).get("documents", 0)
    rules = stats.get("fineweb_rule_percent") or {}
    rows = []
    for step in stats.get("steps") or ():
        came, left = step["in"], step["out"]
        tokens = came.get("tokens", 0)
        published = step.get("fineweb_removed_percent")
        rows.append(
            {
                "name": step["step"],
                "documents_in": figure(came["documents"]),
                "documents_out": figure(left["documents"]),
                "kept_percent": percent(left["documents"], everything),
                "removed_percent": percent(came["documents"] - left["documents"], everything),
                "tokens_percent": shown_percent(tokens - left.get("tokens", 0), tokens),
                "published": "" if published is None else f"{published:.1f} %",
                "reasons": ", ".join(_reasons(step, rules)),
            }
        )
    return rows


def _reasons(step: Mapping[str, Any], rules: Mapping[str, float]) -> Iterator[str]:
    """What a step removed by each rule, with FineWeb's percentage where the rule has one."""
    for reason, count in (step.get("removed") or {}).items():
        told = f"{reason} {count['documents']:,}"
        if reason in rules:
            ours = shown_percent(count.get("tokens", 0), step["in"].get("tokens", 0))
            told += f" ({ours}; FineWeb {rules[reason]} %)"
        yield told
    if (clusters := step.get("clusters") or {}).get("clusters"):
        yield f"{clusters['clusters']:,} clusters, the largest of {clusters['largest']:,}"


def _removed(stage: StageContents) -> list[dict[str, Any]]:
    """Samples of each reason: the steps' reasons in their order, then any others."""
    counts: dict[str, int] = {}
    for step in stage.funnel.get("steps") or ():
        for reason, count in (step.get("removed") or {}).items():
            counts[reason] = counts.get(reason, 0) + count["documents"]
    reasons = [*(reason for reason in counts if reason in stage.removed)]
    reasons += [reason for reason in stage.removed if reason not in counts]
    return [
        {
            "reason": reason,
            "count": figure(counts[reason]) if reason in counts else "",
            "samples": [_sample(row) for row in stage.removed[reason]],
        }
        for reason in reasons
    ]


def _sample(row: Mapping[str, Any]) -> dict[str, str]:
    """A removed text, why, and for a duplicate the text that is kept in its place."""
    told = [str(row.get("id", ""))]
    if row.get("figure") is not None:
        told.append(f"measured {figure(row['figure'])}")
    if row.get("detail"):
        kept = "the kept one is " if row.get("kept_text") is not None else ""
        told.append(kept + str(row["detail"]))
    kept_text = row.get("kept_text")
    return {
        "told": " · ".join(told),
        "text": shortened(str(row.get("text", ""))),
        "kept_text": "" if kept_text is None else shortened(str(kept_text)),
    }


def _truth(truth: Mapping[str, Any]) -> list[dict[str, str]]:
    """Precision and recall of the steps, where the source knows which documents are junk."""
    rates = {**(truth.get("steps") or {}), **({"all": truth["all"]} if "all" in truth else {})}
    fields = ("removed", "precision", "recall")
    return [
        {"name": name, **{field: figure(rate.get(field)) for field in fields}}
        for name, rate in rates.items()
    ]


def result_tables(stages: list[StageContents]) -> list[dict[str, Any]]:
    """The table of every evaluate stage, and one of held-out preference pairs."""
    names = [stage.name for stage in stages]
    tables = [
        table
        for stage in stages
        if stage.evaluations
        for table in compared(
            in_order(stage.evaluations, names), f"{stage.name}: models by question types"
        )
    ]
    pairs = {stage.name: pair_cells(stage.record.get("metrics") or {}) for stage in stages}
    judges = {name: cells for name, cells in pairs.items() if cells}
    if judges:
        tables += compared(judges, "preferred answers told, of held-out pairs")
    return tables


def compared(metrics: Metrics, caption: str) -> list[dict[str, Any]]:
    """A row a model; each question type with its main metric first and the others beside it.

    What does not fit beside one another follows in a table of its own, without the models that have
    nothing there.
    """
    groups: dict[str, list[Column]] = {}
    for column in columns(metrics):
        groups.setdefault(column.question, []).append(column)
    first, *others = _folded(groups.values())
    tables = [_table(metrics, first, caption)]
    for piece in others:
        keys = {column.key for column in piece}
        some = {model: figures for model, figures in metrics.items() if keys & figures.keys()}
        tables.append(_table(some, piece, f"{caption}, continued"))
    return tables


def _folded(groups: Iterable[Sequence[Column]]) -> list[list[Column]]:
    """The columns in pieces of at most BESIDE; a question type is cut only where it is longer."""
    pieces: list[list[Column]] = [[]]
    for group in groups:
        for start in range(0, len(group), BESIDE):
            part = group[start : start + BESIDE]
            if len(pieces[-1]) + len(part) > BESIDE:
                pieces.append([])
            pieces[-1] += part
    return pieces


def _table(metrics: Metrics, piece: Sequence[Column], caption: str) -> dict[str, Any]:
    spans = [(name, len(list(group))) for name, group in groupby(piece, lambda c: c.question)]
    return {
        "caption": caption,
        "questions": [{"name": name, "span": span} for name, span in spans],
        "columns": piece,
        "rows": [
            {"model": model, "cells": [_cell(c.key, figures.get(c.key)) for c in piece]}
            for model, figures in metrics.items()
        ],
    }


def _cell(key: str, found: Cell | None) -> dict[str, Any] | None:
    """Texts of a figure, and for a share the places of its bar and its interval, in percent."""
    if found is None:
        return None
    value, low, high = found["value"], found["low"], found["high"]
    share = key.rpartition("/")[2] not in NO_SHARES and 0 <= low <= high <= 1
    return {
        "value": decimals(value),
        "interval": f"[{decimals(low)}, {decimals(high)}]",
        "n": f"n={found['n']:,}" if "n" in found else "",
        "bar": {"at": percent(value, 1), "low": percent(low, 1), "wide": percent(high - low, 1)}
        if share
        else None,
    }


def machine(hardware: Mapping[str, Any]) -> str:
    parts = [hardware.get("processor"), *(hardware.get("gpus") or ())]
    if "cores" in hardware:
        parts.append(f"{hardware['cores']} cores")
    if "memory_gb" in hardware:
        parts.append(f"{hardware['memory_gb']} GB")
    return ", ".join(str(part) for part in parts if part)


def recipe_text(resolved: Mapping[str, Any]) -> str:
    """The recipe as it ran, as YAML that runs again; empty where the run does not hold it."""
    if not resolved:
        return ""
    from ruamel.yaml import YAML

    yaml, text = YAML(), StringIO()
    yaml.width = 100
    yaml.dump(dict(resolved), text)
    return text.getvalue()


def took(stage: StageContents) -> float:
    return float(stage.record.get("seconds") or 0.0)


def percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


def shown_percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def written(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str) if value else ""
