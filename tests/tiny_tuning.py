"""A tiny `sft` stage; run as a script, it trains it.

python tests/tiny_tuning.py FOLDER OUT [SECONDS-A-STEP]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tiny_chat import tiny_folder
from tiny_training import slow_steps

QUESTIONS = {"sky?": "blue", "sea?": "cold", "bread?": "Anna", "town <|end|>?": "unknown"}


def make_inputs(folder: Path) -> None:
    """`base/`, a model without chat, and `chats.jsonl` in `folder`."""
    tiny_folder(folder / "base")
    rows = [{"prompt": asked, "completion": said} for asked, said in QUESTIONS.items()] * 6
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "chats.jsonl").write_text(text, encoding="utf-8")


def tiny_stage(folder: Path, **changes: Any) -> Any:
    """A stage of 60 steps that saves every tenth, which is enough to learn the four answers."""
    from llmkit.data.chat.conversations import PathConversations
    from llmkit.stages.sft import SFT

    args = {
        "max_steps": 60,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-2,
        "save_steps": 10,
        "use_cpu": True,
        **changes.pop("args", {}),
    }
    source = PathConversations(path=str(folder / "chats.jsonl"))
    given: dict[str, Any] = {"model": "base", "dataset": (source,), "patches": "none"} | changes
    return SFT(args=args, **given)


def context_in(folder: Path, out: Path, **settings: Any) -> Any:
    from llmkit.stage import Context

    out.mkdir(parents=True, exist_ok=True)
    return Context(name="sft", out=out, seed=3, inputs={"base": folder / "base"}, **settings)


if __name__ == "__main__":
    given_folder, given_out, *pause = (Path(argument) for argument in sys.argv[1:])
    slow_steps(float(str(pause[0])) if pause else 0.0)
    print(json.dumps(tiny_stage(given_folder).run(context_in(given_folder, given_out))))
