"""`TaskPolicyStage`: what `grpo` and `rloo` share, the tasks that a policy practises.

Imports nothing heavy: a recipe check reads it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from llmkit.errors import Problem
from llmkit.schema import Named
from llmkit.stage import Context, Facts
from llmkit.tasks import TASKS
from llmkit.tasks.task import Task, name_of
from llmkit.trainers.policy import PolicyStage, Row, check_enough, fitting, row_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class TaskPolicyStage(PolicyStage):
    """Keys of `grpo` and `rloo`; each adds `args` and its trainer.

    Attributes:
        tasks: names of tasks, with their options; what they measure is the reward.
        num_prompts: different prompts of each task at most (its own `limit` may say less).
        rewards: further rewards, added to that of the tasks.
    """

    tasks: Annotated[list[Any], Named("llmkit.tasks:TASKS")]
    num_prompts: int = 2000

    def problems(self, upstream: Mapping[str, Facts]) -> Iterator[Problem]:
        if not self.tasks:
            yield Problem(("tasks",), "is empty", "name at least one task")
        names = [name_of(task) for task in self.tasks]
        for index, (name, task) in enumerate(zip(names, self.tasks, strict=True)):
            if not isinstance(task, Task) or not task.rewards:
                remedy = f"take one of {', '.join(trainable())}"
                yield Problem(("tasks", index), f"{name} measures, and is no reward", remedy)
            if name in names[:index]:
                yield Problem(("tasks", index), f"{name} stands there twice", "keep one")
            if task.models is not None:
                what = "`models` has no place here: the stage trains one"
                yield Problem(("tasks", index), what, "leave it out")
        if self.num_prompts < 1:
            yield Problem(("num_prompts",), f"{self.num_prompts} is not positive")
        yield from super().problems(upstream)

    def files(self) -> Iterator[Path]:
        yield from super().files()
        for task in self.tasks:
            yield from task.files()

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        for task in self.tasks:
            yield from task.hub_data()

    def completion_length(self) -> int:
        needed = (task.max_new_tokens for task in self.tasks if isinstance(task, Task))
        return int(self.args.get("max_completion_length") or max(needed, default=1))

    def _trainer(self) -> type[Any]:
        raise TypeError(f"{type(self).__name__} does not say what trains it")

    def run(self, context: Context) -> dict[str, Any]:
        """Train, and write model, tokenizer and generation_config.json to `context.out`."""
        import datasets

        from llmkit.device import tune_allocator
        from llmkit.model import context_length, load_model, load_tokenizer
        from llmkit.rewards.task import tasks_reward
        from llmkit.trainers.session import train

        tune_allocator()
        source = context.inputs[self.model]
        tokenizer = load_tokenizer(source, self.revision)
        model = load_model(source, self.revision)
        generation = copy.deepcopy(model.generation_config)
        args = self._arguments(context.out, context.seed, context.name)
        rows = self._rows(context, tokenizer, context_length(model) - args.max_completion_length)
        check_enough(rows, args, context.name)
        functions, weights = self._reward_functions(context, tokenizer, args.device)
        args.reward_weights = [1.0, *weights]
        tasks = {name_of(task): task for task in self.tasks}
        trainer = self._trainer()(
            model=model,
            args=args,
            context=context,
            optimizer=self.optimizer,
            reward_funcs=[tasks_reward(tasks), *functions],
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=self._peft_config(context.name, model),
            best=None if self.rewards else best_reward(self.tasks),
        )
        figures = train(trainer, self._patches(trainer.model))
        self._save(trainer, generation, context.out)
        return {"prompts": len(rows)} | figures | trainer.figures()

    def _rows(self, context: Context, tokenizer: PreTrainedTokenizerFast, room: int) -> list[Row]:
        """The prompts of all tasks that leave room for a completion."""
        from llmkit.model import encode_conversations

        rows = [
            row_of(example, name_of(task))
            for task in self.tasks
            for example in islice(
                task.training_examples(context.world, context.seed), self.num_prompts
            )
        ]
        ids = [ids for ids, _ in encode_conversations(tokenizer, [r["prompt"] for r in rows], True)]
        return fitting(rows, ids, room, self.max_bad_rows, context.name)


def best_reward(tasks: list[Any]) -> float | None:
    """The highest reward of the tasks, where it is the same for all."""
    best = {sum(weight for weight in task.rewards.values() if weight > 0) for task in tasks}
    return best.pop() if len(best) == 1 else None


def trainable() -> list[str]:
    """The tasks that have a reward."""
    from importlib import import_module

    found = []
    for name, at in TASKS.items():
        module, cls = at.split(":")
        if vars(getattr(import_module(module), cls)).get("rewards"):
            found.append(name)
    return found
