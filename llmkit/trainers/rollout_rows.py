"""The rows of a rollout, cut into micro-batches with as little padding as can be.

TRL pads all completions of a rollout to the longest of them, shuffles the rows and splits them. On
a CPU what is padding costs as much as what is not. Here the rows of one update stay together, those
of like length share a micro-batch, and columns that are padding in all of its rows are cut off. The
gradients of an update are summed over its rows, so the update is the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

Batch = dict[str, Any]  # TRL's: tensors of (rows, ...), and figures of the whole rollout


def by_length(batches: Sequence[Batch], window: int) -> list[Batch]:
    """The micro-batches with their rows sorted, the longest first, within each `window` of them."""
    arranged: list[Batch] = []
    for start in range(0, len(batches), window):
        part = list(batches[start : start + window])
        rows = joined(part)
        lengths = rows["prompt_mask"].sum(1) + rows["completion_mask"].sum(1)
        order = lengths.argsort(descending=True, stable=True)
        size = len(order) // len(part)
        for first in range(0, len(order), size):
            arranged.append(trimmed(chosen(rows, order[first : first + size])))
    return arranged


def joined(batches: Sequence[Batch]) -> Batch:
    return {
        key: torch.cat([batch[key] for batch in batches]) if is_of_rows(value) else value
        for key, value in batches[0].items()
    }


def chosen(rows: Batch, indices: torch.Tensor) -> Batch:
    return {key: value[indices] if is_of_rows(value) else value for key, value in rows.items()}


def is_of_rows(value: Any) -> bool:
    """Whether it holds something for each row; a number of tokens, say, does not."""
    return isinstance(value, torch.Tensor) and value.dim() > 0


def trimmed(batch: Batch) -> Batch:
    """Without the columns that are padding in every row, on the left of prompts and the right of
    completions. Whatever else has a column for each token of a completion is cut alike."""
    width = batch["completion_ids"].shape[1]
    prompt = max(1, int(batch["prompt_mask"].sum(1).max()))
    completion = max(1, int(batch["completion_mask"].sum(1).max()))
    cut: Batch = {}
    for key, value in batch.items():
        if key in ("prompt_ids", "prompt_mask"):
            cut[key] = value[:, -prompt:]
        elif is_of_rows(value) and value.dim() > 1 and value.shape[1] == width:
            cut[key] = value[:, :completion]
        else:
            cut[key] = value
    return cut
