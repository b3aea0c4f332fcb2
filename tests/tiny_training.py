"""A tiny tokenizer, tiny shards and a tiny `pretrain` stage; run as a script, it trains them.

python tests/tiny_training.py FOLDER OUT [SECONDS-A-STEP]
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WORDS = "the a red blue cat dog house river runs sees finds old small and then".split()
CONTEXT = 16
PLAIN_FILES = {  # of a model folder that a training stage leaves
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
}


def make_tokenizer(folder: Path) -> Any:
    """Words and the contract's special tokens, saved to `folder`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<|endoftext|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    vocabulary = {word: number for number, word in enumerate([*WORDS, *specials])}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="the"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        additional_special_tokens=specials[2:],
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(str(folder))
    return tokenizer


def make_shards(
    folder: Path,
    tokenizer: Any,
    documents: int = 60,
    words: Sequence[str] = WORDS,
    held_out: int | None = None,
) -> None:
    """Random documents of these words, the first tenth of them for validation."""
    from llmkit.data.tokens.shard_files import ShardWriter, write_json

    choose = random.Random(0)
    texts = [" ".join(choose.choices(words, k=choose.randint(5, 40))) for _ in range(documents)]
    cut = documents // 10 if held_out is None else held_out
    (folder / "scratch").mkdir(parents=True)
    splits = {}
    for split, part in (("train", texts[cut:]), ("validation", texts[:cut])):
        writer = ShardWriter(
            folder,
            folder / "scratch",
            split,
            vocab_size=len(tokenizer),
            eos=tokenizer.eos_token_id,
            shard_tokens=500,
        )
        ids = [tokenizer(text)["input_ids"] for text in part]
        writer.add(ids, [len(text.encode()) for text in part])
        splits[split] = writer.finish()
    index = {
        "dtype": writer.dtype.name,
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "context_length": CONTEXT,
        "splits": splits,
    }
    write_json(folder / "index.json", index)


def make_inputs(folder: Path) -> None:
    """`tokenizer/` and `shards/` in `folder`."""
    make_shards(folder / "shards", make_tokenizer(folder / "tokenizer"))


def tiny_stage(**changes: Any) -> Any:
    """A `pretrain` stage of one layer and 30 steps, dropout on, that saves every tenth step."""
    from llmkit.stages.pretrain import Pretrain

    args = {
        "max_steps": 30,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "save_steps": 10,
        "logging_steps": 5,
        "use_cpu": True,
        "bf16": False,  # whatever the machine is fast in, the formulas are in float32
        **changes.pop("args", {}),
    }
    config = {"n_layer": 1, "n_head": 2, "n_embd": 32, **changes.pop("config", {})}
    given = {"tokenizer": "tokenizer", "shards": "shards", "patches": "none"} | changes
    return Pretrain(args=args, config=config, **given)


def context_in(folder: Path, out: Path, **settings: Any) -> Any:
    """A context whose inputs are `make_inputs(folder)`."""
    from llmkit.stage import Context

    out.mkdir(parents=True, exist_ok=True)
    inputs = {"tokenizer": folder / "tokenizer", "shards": folder / "shards"}
    return Context(name="pretrain", out=out, seed=3, inputs=inputs, **settings)


def artefacts(out: Path) -> dict[str, bytes]:
    """File -> bytes of everything but logs and scratch."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.relative_to(out).parts[0] not in ("logs", "scratch")
    }


def slow_steps(seconds: float) -> None:
    """Make every step of this process last longer, and say when it is done."""
    from llmkit.trainers.display import ShowProgress

    inner = ShowProgress.on_step_end

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        inner(self, args, state, control, **kwargs)
        print(f"step {state.global_step}", flush=True)
        time.sleep(seconds)

    ShowProgress.on_step_end = on_step_end  # type: ignore[method-assign]


if __name__ == "__main__":
    from llmkit.errors import Stopped

    given_folder, given_out, *pause = sys.argv[1:]
    slow_steps(float(pause[0]) if pause else 0.0)
    try:
        figures = tiny_stage().run(context_in(Path(given_folder), Path(given_out)))
    except Stopped as stopped:
        sys.exit(stopped.exit_status)
    print(json.dumps(figures))
