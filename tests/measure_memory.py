"""Trains a GPT-2 of given sizes in this process, and prints the memory that it took at its worst.

python tests/measure_memory.py LAYERS WIDTH HEADS VOCABULARY CONTEXT ROWS PATCHES
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

STEPS = 3


def peak_bytes() -> int:
    """Of resident memory, since the process began."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def trained(folder: Path, sizes: list[int], patches: str) -> int:
    """The peak up to the end of training, the validation left out."""
    import tiny_training

    from llmkit.stages import pretrain
    from llmkit.trainers import session

    layers, width, heads, vocabulary, context, rows = sizes
    tiny_training.make_tokenizer(folder / "tokenizer")
    tokenizer = tiny_training.make_tokenizer(folder / "tokenizer")
    tiny_training.make_shards(folder / "shards", tokenizer, documents=rows * STEPS * context // 20)
    index = json.loads((folder / "shards" / "index.json").read_text())
    (folder / "shards" / "index.json").write_text(json.dumps({**index, "context_length": context}))
    off = {name: 0.0 for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop")}
    config = {"n_layer": layers, "n_embd": width, "n_head": heads, "vocab_size": vocabulary}
    args = {
        "max_steps": STEPS,
        "per_device_train_batch_size": rows,
        "bf16": False,
        "save_strategy": "no",
    }
    stage = tiny_training.tiny_stage(config=config | off, args=args, patches=patches)
    seen: list[int] = []
    inner = session.train

    def train(*given: Any) -> dict[str, Any]:
        figures = inner(*given)
        seen.append(peak_bytes())
        return figures

    session.train = train  # type: ignore[assignment]
    assert isinstance(stage, pretrain.Pretrain)
    stage.run(tiny_training.context_in(folder, folder / "out"))
    return seen[0]


if __name__ == "__main__":
    *numbers, asked = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        print(trained(Path(scratch), [int(number) for number in numbers], asked))
