"""Known facts, things that do not exist, and sums: each judged by the rule of its own task.

An example's `details["question"]` says which of them it is. The same rule judges what a policy
writes while it learns (`rewards: [{task: tinyworld_answers}]`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any, ClassVar

from llmkit.data.tinyworld.prompts import prompts
from llmkit.data.tinyworld.world import World
from llmkit.errors import UserError
from llmkit.tasks.task import Completion, Example, Task
from llmkit.tasks.tinyworld_facts import TinyworldFacts
from llmkit.tasks.tinyworld_sums import TinyworldSums
from llmkit.tasks.tinyworld_unknown import TinyworldUnknown

# The sort of a question -> the task that judges it, and its metric of being right.
RULES: Mapping[str, tuple[Task, str]] = {
    "facts": (TinyworldFacts(), "accuracy"),
    "unknown": (TinyworldUnknown(), "refused"),
    "sums": (TinyworldSums(), "accuracy"),
}


@dataclass(frozen=True, kw_only=True)
class TinyworldAnswers(Task):
    """A third of each sort: held-out wordings, names and operands; `limit` (900) in all.

    To train on, there are training wordings, names and operands, in the shares of
    `{tinyworld: prompts}`; 10,000 of them when `limit` is left out.
    """

    max_new_tokens: ClassVar[int] = 64  # the sums' need
    rewards: ClassVar[Mapping[str, float]] = {"credit": 1.0}

    def examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        limit = self.limit or 900
        found: list[Example] = []
        for number, (sort, (task, _)) in enumerate(RULES.items()):
            share = (limit + number) // len(RULES)
            if share:
                drawn = replace(task, limit=share).examples(world, seed)
                found += [
                    Example(e.prompt, e.answer, {**e.details, "question": sort}) for e in drawn
                ]
        Random(f"{seed}:tinyworld_answers").shuffle(found)
        yield from found

    def training_examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        for row in prompts(World(**world), self.limit or 10_000, seed):
            yield Example(row["prompt"], row["answer"], row["details"])

    def score(self, example: Example, completion: Completion) -> dict[str, float]:
        """`right`, as the question's own task says; `credit`, what it earns there; `ended`.

        A task that is no reward itself credits what is right and nothing else.

        Raises:
            UserError: the example does not say of which sort it is.
        """
        sort = str(example.details.get("question"))
        if sort not in RULES:
            raise UserError(
                "tinyworld_answers",
                f"an example is of the sort {sort}, not of {', '.join(RULES)}",
                "judge prompts of `{tinyworld: prompts}` alone",
            )
        task, metric = RULES[sort]
        scores = task.score(example, completion)
        credit = task.weighted(scores) if task.rewards else scores[metric]
        return {"right": scores[metric], "credit": credit, "ended": scores["ended"]}
