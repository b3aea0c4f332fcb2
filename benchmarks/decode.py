"""Tokens per second of decoding with GPT-2: llmkit's loop beside transformers' `generate`.

    python benchmarks/decode.py [--layers 2] [--width 256] [--vocab-size 1280]
                                [--batches 1 16 64 256] [--threads 2] [--output FILE]

Variants: `generate` as it comes (DynamicCache), `generate` with a static cache, and
`llmkit.decode.sample`. Two kinds of batches of prompts of unequal length, drawn at temperature 1:

- `full`: every prompt once, and no row ends before `--new-tokens`;
- `rollout`: every prompt eight times, and a row ends with each token by one chance in 16, as
  answers do in reinforcement learning. Only tokens up to a row's end count.

Greedy ids of all variants are compared first (float32), and a variant that disagrees is not timed.
Weights are random: speed does not depend on them. The variants take turns, so that a slow moment
hits all of them, and the median counts. CPU time stands beside wall time: with --threads 1 it tells
variants apart even on a machine that others are using.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from machine import ForeignTime, write_result

CHANCE = 16  # one in so many tokens ends a row of a rollout
GROUP = 8  # completions of a prompt in a rollout
VARIANTS = ("generate", "generate, static cache", "llmkit")
Decode = Callable[[list[list[int]], dict[str, Any]], Any]  # prompts, settings -> Decoded


@dataclass(frozen=True)
class Shape:
    """The model, and the prompts: half to all of `prompt` tokens."""

    layers: int
    width: int
    vocab_size: int
    prompt: int
    new_tokens: int
    threads: int


def model_of(shape: Shape) -> Any:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=shape.vocab_size,
        n_positions=shape.prompt + shape.new_tokens,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=max(1, shape.width // 64),
        bos_token_id=0,
        eos_token_id=None,
    )
    return GPT2LMHeadModel(config).eval()


def variants(model: Any) -> dict[str, Decode]:
    from transformers import GenerationConfig

    from llmkit.decode import sample
    from llmkit.decoding.stock import generate

    def config(settings: dict[str, Any], **more: Any) -> GenerationConfig:
        return GenerationConfig(**settings, **more, pad_token_id=0)

    static = {"cache_implementation": "static"}
    return {
        "generate": lambda prompts, given: generate(model, prompts, config(given)),
        "generate, static cache": lambda prompts, given: generate(
            model, prompts, config(given, **static)
        ),
        "llmkit": lambda prompts, given: sample(model, prompts, config(given)),
    }


def batch_of(shape: Shape, kind: str, size: int) -> tuple[list[list[int]], dict[str, Any]]:
    """The prompts of a batch, and the settings to sample them with."""
    import torch

    different = size if kind == "full" else -(-size // GROUP)
    generator = torch.Generator().manual_seed(size)
    lengths = torch.randint(shape.prompt // 2, shape.prompt + 1, (different,), generator=generator)
    rows = [
        torch.randint(shape.vocab_size, (n,), generator=generator).tolist()
        for n in lengths.tolist()
    ]
    settings = {"max_new_tokens": shape.new_tokens, "do_sample": True, "top_k": 0}
    if kind == "full":
        return rows, settings
    stops = range(0, shape.vocab_size, CHANCE)  # likely by 1 / CHANCE, as the weights are random
    return (rows * GROUP)[:size], settings | {"eos_token_id": list(stops)}


def check(shape: Shape, decoders: dict[str, Decode], size: int) -> None:
    """End here where a variant's greedy ids are not `generate`'s."""
    prompts, settings = batch_of(shape, "rollout", size)
    greedy = {key: value for key, value in settings.items() if key in ("max_new_tokens",)}
    prompts[0] = prompts[0][:1]
    found = {name: decode(prompts, greedy).ids for name, decode in decoders.items()}
    stops = {row[len(row) // 2] for row in found["generate"][:4]}
    for given in (greedy, greedy | {"eos_token_id": sorted(stops)}):
        found = {name: decode(prompts, given).ids for name, decode in decoders.items()}
        for name in VARIANTS:
            if found[name] != found["generate"]:
                raise SystemExit(f"{name} disagrees with generate: not timed")


def measure(shape: Shape, sizes: list[int], repeats: int) -> tuple[list[dict[str, Any]], float]:
    import torch

    from llmkit.device import tune_allocator

    tune_allocator()  # as llmkit's stages do; all variants have it
    torch.set_num_threads(shape.threads)
    decoders = variants(model_of(shape))
    rows = []
    watch = ForeignTime()
    for size in sizes:
        check(shape, decoders, size)
        for kind in ("full", "rollout"):
            prompts, settings = batch_of(shape, kind, size)
            taken: dict[str, list[tuple[int, float, float]]] = {name: [] for name in VARIANTS}
            for repeat in range(repeats):
                torch.manual_seed(repeat)
                for name in VARIANTS:
                    taken[name].append(timed(decoders[name], prompts, settings))
            rows += table(kind, size, taken)
    return rows, watch.share()


def timed(
    decode: Decode, prompts: list[list[int]], settings: dict[str, Any]
) -> tuple[int, float, float]:
    """Tokens, wall and CPU seconds of one batch."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = decode(prompts, settings)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return sum(map(len, found.ids)), wall, cpu


def table(
    kind: str, size: int, taken: dict[str, list[tuple[int, float, float]]]
) -> list[dict[str, Any]]:
    """A row a variant: tokens/s of the median batch, ratios to `generate` (over 1 is faster)."""
    wall = {name: statistics.median(n / w for n, w, _ in runs) for name, runs in taken.items()}
    cpu = {name: statistics.median(n / c for n, _, c in runs) for name, runs in taken.items()}
    return [
        {
            "batch": size,
            "kind": kind,
            "variant": name,
            "tokens_per_second": round(wall[name]),
            "against_generate": round(wall[name] / wall["generate"], 2),
            "tokens_per_cpu_second": round(cpu[name]),
            "against_generate_cpu_time": round(cpu[name] / cpu["generate"], 2),
        }
        for name in taken
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    sizes = {"layers": 2, "width": 256, "vocab-size": 1280, "prompt": 32, "new-tokens": 64}
    for name, default in {**sizes, "threads": 2, "repeats": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/decode-*.json")
    chosen = vars(parser.parse_args())
    output, repeats, batches = (chosen.pop(key) for key in ("output", "repeats", "batches"))
    shape = Shape(**chosen)
    rows, foreign = measure(shape, batches, repeats)
    for row in rows:
        what = f"{row['kind']:8} batch {row['batch']:4} {row['variant']:24}"
        speed = f"{row['tokens_per_second']:8,} tokens/s {row['against_generate']:6.2f}"
        cpu = f"{row['tokens_per_cpu_second']:8,} {row['against_generate_cpu_time']:6.2f}"
        print(f"{what}{speed}   a CPU second {cpu}")
    name = f"decode-{shape.layers}x{shape.width}-v{shape.vocab_size}"
    result = {"shape": asdict(shape), "repeats": repeats, "rows": rows}
    write_result(name, result, foreign, output)


if __name__ == "__main__":
    main()
