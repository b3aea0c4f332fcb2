"""Tiny `reward` and `dpo` stages on pairs that one word decides; run as a script, they train.

python tests/tiny_pairs.py reward|dpo FOLDER OUT [SECONDS-A-STEP]
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

from tiny_chat import tiny_folder
from tiny_training import slow_steps

GOOD, BAD = "blue", "red"


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Pairs of different prompts: what says `blue` is preferred, among words of no meaning."""
    choose = random.Random(seed)
    letters = "abcdefgh"
    made = []
    for _ in range(count):
        asked = "".join(choose.choices(letters, k=5)) + "?"
        noise = ["".join(choose.choices(letters, k=choose.randint(1, 4))) for _ in range(2)]
        chosen, rejected = f"{GOOD} {noise[0]}", f"{BAD} {noise[1]}"
        made.append({"prompt": asked, "chosen": chosen, "rejected": rejected})
    return made


def write(file: Path, pairs: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in pairs), encoding="utf-8")
    return file


def make_inputs(folder: Path) -> None:
    """`base/`, a model without any knowledge, and `pairs.jsonl` in `folder`."""
    tiny_folder(folder / "base")
    write(folder / "pairs.jsonl", rows(300))


def source(file: Path, **options: Any) -> Any:
    from llmkit.data.chat.preferences import PathPreferences

    return PathPreferences(path=str(file), **options)


def tiny_stage(kind: str, folder: Path, **changes: Any) -> Any:
    """A stage of 30 steps that saves every tenth, which is enough to prefer the good word."""
    from llmkit.stages.dpo import DPO
    from llmkit.stages.reward import Reward

    args = {
        "max_steps": 30,
        "per_device_train_batch_size": 16,
        "learning_rate": 1e-2,
        "save_steps": 10,
        "logging_steps": 5,
        "use_cpu": True,
        "bf16": False,
        **changes.pop("args", {}),
    }
    given: dict[str, Any] = {
        "model": "base",
        "dataset": (source(folder / "pairs.jsonl"),),
        "patches": "none",
        "eval_fraction": 0.3,
    }
    return {"reward": Reward, "dpo": DPO}[kind](args=args, **(given | changes))


def context_in(kind: str, folder: Path, out: Path, **settings: Any) -> Any:
    from llmkit.stage import Context

    out.mkdir(parents=True, exist_ok=True)
    return Context(name=kind, out=out, seed=3, inputs={"base": folder / "base"}, **settings)


if __name__ == "__main__":
    asked_kind, given_folder, given_out, *pause = sys.argv[1:]
    slow_steps(float(pause[0]) if pause else 0.0)
    here = context_in(asked_kind, Path(given_folder), Path(given_out))
    print(json.dumps(tiny_stage(asked_kind, Path(given_folder)).run(here)))
