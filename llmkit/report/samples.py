"""What the models of a run said: to the same prompts side by side, and while they were trained."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmkit.tables import ENDED, figure

LONGEST = 600  # characters of a removed document, a prompt or a completion
PROMPTS = 24  # of a task
STEPS = 3  # of a training, from its first to its last
AT_A_STEP = 4  # completions


@dataclass(frozen=True)
class Answer:
    """A completion; `figure` is what the task is known by (`accuracy`), None where none scored."""

    text: str
    figure: str | None = None
    score: float | None = None


@dataclass(frozen=True)
class Asked:
    """A prompt with every model's completions; `wanted` is empty where nobody knows the answer."""

    task: str
    prompt: str
    wanted: str
    answers: dict[str, list[Answer]] = field(default_factory=dict)


def side_by_side(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Asked]]:
    """Task -> its prompts, in the order of their first appearance; equal completions once.

    Takes rows of `samples.jsonl` and `completions.jsonl`: prompt, completion, and where it is known
    task, model, answer and scores. Rows without a task are gathered under the empty name.
    """
    together: dict[str, Asked] = {}
    for row in rows:
        if "prompt" not in row or "completion" not in row:
            continue
        task, prompt = str(row.get("task", "")), spoken(row["prompt"])
        wanted = shortened(spoken(row.get("answer")))
        fresh = Asked(task, shortened(prompt), wanted)
        asked = together.setdefault(json.dumps([task, prompt]), fresh)
        said = asked.answers.setdefault(str(row.get("model", "")), [])
        answer = scored(row)
        if answer not in said:
            said.append(answer)
    tasks: dict[str, list[Asked]] = {}
    for asked in together.values():
        tasks.setdefault(asked.task, []).append(asked)
    return {task: prompts[:PROMPTS] for task, prompts in tasks.items()}


def scored(row: Mapping[str, Any]) -> Answer:
    """The completion with the first of its scores that is not `ended`."""
    text, scores = shortened(spoken(row["completion"])), row.get("scores")
    for name, score in scores.items() if isinstance(scores, Mapping) else ():
        if name != ENDED and isinstance(score, int | float):
            return Answer(text, str(name), float(score))
    return Answer(text)


def while_trained(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`{step, prompt, completion, figures}` of a few steps of a training from first to last.

    Takes rows of `logs/completions.jsonl`: step, prompt, completion, reward, and its parts by name
    in rewards; and of `logs/samples.jsonl`, which have no reward.
    What was logged twice (before and after a resume) is shown once.
    """
    by_step: dict[int, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        if isinstance(row.get("step"), int) and "prompt" in row and "completion" in row:
            by_step.setdefault(row["step"], {})[json.dumps(row, sort_keys=True)] = row
    steps = sorted(by_step)
    last = len(steps) - 1
    chosen = sorted({round(part * last / (STEPS - 1)) for part in range(STEPS)}) if steps else []
    shown = [row for n in chosen for row in list(by_step[steps[n]].values())[:AT_A_STEP]]
    return [
        {
            "step": row["step"],
            "prompt": shortened(spoken(row["prompt"])),
            "completion": shortened(spoken(row["completion"])),
            "figures": figures_of(row),
        }
        for row in shown
    ]


def figures_of(row: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of a logged completion: its reward, and the parts that make it up."""
    parts = row.get("rewards")
    numbers = dict(row)
    if isinstance(parts, Mapping) and len(parts) > 1:
        numbers |= {f"rewards/{name}": value for name, value in parts.items()}
    return {
        str(name): figure(value)
        for name, value in numbers.items()
        if name != "step" and isinstance(value, int | float)
    }


def spoken(value: Any) -> str:
    """A prompt or completion as text: a string as it is, messages as `role: content` lines.

    One message alone is what it says: a user's question, or a model's answer.
    """
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        return str(value[0].get("content", ""))
    if isinstance(value, list):
        return "\n".join(
            f"{item.get('role', '')}: {item.get('content', '')}"
            if isinstance(item, dict)
            else str(item)
            for item in value
        )
    return "" if value is None else str(value)


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + " …"
