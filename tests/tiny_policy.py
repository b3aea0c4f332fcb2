"""A toy task whose best answer is known, and tiny `grpo` and `rloo` stages that practise it.

Run as a script, it trains:  python tests/tiny_policy.py FOLDER OUT [SECONDS-A-STEP]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tiny_chat import tiny_folder
from tiny_training import slow_steps

from llmkit.tasks import TASKS
from llmkit.tasks.task import Completion, Example, Task

NEW_TOKENS = 8
WORDS = "sky sea town bread village blue".split()


@dataclass(frozen=True, kw_only=True)
class Ascii(Task):
    """Write plain ASCII. About half of a random model's byte tokens are; all can be."""

    max_new_tokens: ClassVar[int] = NEW_TOKENS
    rewards: ClassVar[Mapping[str, float]] = {"ascii": 1.0}

    constant: float | None = None  # what every completion earns instead

    def training_examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        for number in range(self.limit or 24):
            # prompts of different lengths, so that rows are padded
            text = " ".join(WORDS[: 1 + number % len(WORDS)]) + f" {number}?"
            yield Example([{"role": "user", "content": text}], "", {"number": number})

    def score(self, example: Example, completion: Completion) -> dict[str, float]:
        if self.constant is not None:
            return {"ascii": self.constant}
        characters = completion.text or "\ufffd"
        return {"ascii": sum(c.isascii() for c in characters) / len(characters)}


TASKS["ascii"] = f"{Ascii.__module__}:Ascii"


def make_inputs(folder: Path) -> None:
    """`base/`, a random model with a chat template, in `folder`."""
    tiny_folder(folder / "base")


def tiny_stage(kind: str = "grpo", **changes: Any) -> Any:
    """Rollouts of 16 completions, used for four updates; saves every fifth of 20 steps."""
    from importlib import import_module

    from llmkit.stages import STAGES

    module, name = STAGES[kind].split(":")
    args = {
        "max_steps": 20,
        "per_device_train_batch_size": 8,
        "steps_per_generation": 2,
        "num_iterations": 2,
        "num_generations": 4,
        "learning_rate": 5e-3,
        "save_steps": 5,
        "use_cpu": True,
        "bf16": False,
        **changes.pop("args", {}),
    }
    given: dict[str, Any] = {"model": "base", "tasks": (Ascii(),), "patches": "none"} | changes
    return getattr(import_module(module), name)(args=args, **given)


def context_in(folder: Path, out: Path, **settings: Any) -> Any:
    from llmkit.stage import Context

    out.mkdir(parents=True, exist_ok=True)
    return Context(name="policy", out=out, seed=3, inputs={"base": folder / "base"}, **settings)


if __name__ == "__main__":
    given_folder, given_out, *pause = sys.argv[1:]
    slow_steps(float(pause[0]) if pause else 0.0)
    figures = tiny_stage().run(context_in(Path(given_folder), Path(given_out)))
    print(json.dumps(figures))
