"""`{task: tinyworld_answers}`: the rule by which a task is measured, as a reward.

The prompts' rows hold what the rule needs to know, in the columns `answer` and `details` (JSON).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit.rewards.reward import Reward, RewardFunction, checked, text_of
from llmkit.tasks import TASKS
from llmkit.tasks.task import Completion, Example, Task
from llmkit.wording import nearest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class TaskReward(Reward):
    """A task that has a reward, by its name alone: it judges, its own examples are not asked."""

    task: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task not in TASKS:
            remedy = nearest(self.task, TASKS) or f"there are {', '.join(TASKS)}"
            raise ValueError(f"task: no {self.task!r} here; {remedy}")
        self.rule()

    def rule(self) -> Task:
        """The task. Raises ValueError where it cannot judge by itself."""
        module, name = TASKS[self.task].split(":")
        cls = getattr(import_module(module), name)
        if not issubclass(cls, Task) or not cls.rewards:
            raise ValueError(f"task: {self.task} measures, and is no reward")
        try:
            return cls()
        except TypeError:
            raise ValueError(f"task: {self.task} needs keys of its own; use `grpo`") from None

    @property
    def label(self) -> str:
        return self.task

    def _function(
        self, inputs: Mapping[str, Path | str], tokenizer: PreTrainedTokenizerFast, device: Any
    ) -> RewardFunction:
        rule = self.rule()
        return judging({self.task: rule}, lambda columns, index: self.task)


def tasks_reward(tasks: Mapping[str, Task]) -> RewardFunction:
    """One checked reward function of several tasks: a row's column `task` says which is asked."""
    label = next(iter(tasks)) if len(tasks) == 1 else "tasks"
    return checked(label, judging(tasks, lambda columns, index: columns["task"][index]))


def judging(
    tasks: Mapping[str, Task], name_at: Callable[[Mapping[str, Any], int], str]
) -> RewardFunction:
    """Judges each completion by its task, and logs the mean of every metric."""

    def function(
        prompts: Sequence[Any],
        completions: Sequence[Any],
        answer: Sequence[str],
        details: Sequence[str],
        ended: Sequence[bool],
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float]:
        rewards = []
        seen: dict[str, list[float]] = {}
        for index, prompt in enumerate(prompts):
            name = name_at(columns, index)
            example = Example(prompt, answer[index], json.loads(details[index]))
            completion = Completion(text_of(completions[index]), ended[index])
            scores = tasks[name].score(example, completion)
            rewards.append(tasks[name].weighted(scores))
            for metric, score in scores.items():
                seen.setdefault(f"{name}/{metric}", []).append(score)
        if log_metric is not None:
            for metric, values in seen.items():
                log_metric(metric, sum(values) / len(values))
        return rewards

    return function
