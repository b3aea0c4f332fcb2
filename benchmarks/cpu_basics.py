"""Tokens per second of GPT-2 training on a CPU: stock, then each thing llmkit does about it.

    python benchmarks/cpu_basics.py [--vocab-size 2048] [--steps 8] [--output FILE]

Variants: stock transformers; `mallopt` (memory kept instead of mapped afresh); the patches `gelu`
and `fused_head_loss`; and all together. A step is what the Trainer does: forward with labels,
backward, clipping, fused AdamW; float32, no dropout, no cache. Each variant's loss and gradients
are first compared with stock's, and a variant that disagrees is not timed. `mallopt` holds for a
process, so there is one process with it and one without; only one works at a time, and variants
take turns step by step, so that a slow moment hits all of them. CPU time stands beside wall time:
with --threads 1 it tells variants apart even on a machine that others are using.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from machine import ForeignTime, write_result

TOLERANCE = 1e-5  # error norm over norm, of all gradients together, in float32
PATCH_SETS = {
    "stock": [],
    "gelu": ["gelu"],
    "fused_head_loss": ["fused_head_loss"],
    "gelu + fused_head_loss": ["gelu", "fused_head_loss"],
}
Taken = dict[tuple[bool, str], list[tuple[float, float]]]  # variant -> (wall, CPU) seconds
TIMED = [(tuned, patches) for tuned in (False, True) for patches in PATCH_SETS]


@dataclass(frozen=True)
class Shape:
    """The model and its batch."""

    layers: int
    width: int
    vocab_size: int
    context: int
    batch: int
    threads: int


def worker(pipe: Connection, shape: Shape, tuned: bool) -> None:
    """Answer each patch set that comes through `pipe` with `(wall, CPU)` seconds of one step."""
    import torch

    from llmkit.device import tune_allocator

    if tuned and not tune_allocator():
        raise SystemExit("this C library has no mallopt")
    torch.set_num_threads(shape.threads)
    model, input_ids = _model_and_batch(shape)
    _check(model, input_ids)
    step = _training_step(model, input_ids)
    pipe.send("ready")
    while (name := pipe.recv()) is not None:
        pipe.send(_timed(step, PATCH_SETS[name]))


def _timed(step: Callable[[list[str]], None], patches: list[str]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    step(patches)
    return time.perf_counter() - wall, time.process_time() - cpu


def _model_and_batch(shape: Shape) -> tuple[Any, Any]:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=shape.vocab_size,
        n_positions=shape.context,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=max(1, shape.width // 64),
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    input_ids = torch.randint(shape.vocab_size, (shape.batch, shape.context))
    return GPT2LMHeadModel(config), input_ids


def _check(model: Any, input_ids: Any) -> None:
    """End here where a patch set changes loss or gradients."""
    import torch

    from llmkit.patch import patched

    stock = None
    for name, patches in PATCH_SETS.items():
        model.zero_grad()
        with patched(model, patches):
            loss = model(input_ids, labels=input_ids).loss
            loss.backward()
        found = torch.cat([loss.detach()[None], *(p.grad.flatten() for p in model.parameters())])
        stock = found if stock is None else stock
        error = ((found - stock).norm() / stock.norm()).item()
        if not error < TOLERANCE:
            raise SystemExit(f"{name} disagrees with stock by {error:.1e}: not timed")


def _training_step(model: Any, input_ids: Any) -> Callable[[list[str]], None]:
    import torch

    from llmkit.patch import patched

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step(patches: list[str]) -> None:
        with patched(model, patches):
            model(input_ids, labels=input_ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(shape: Shape, steps: int) -> tuple[Taken, float]:
    """`steps` steps of each variant, taken in turn, and the foreign share of CPU time."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for tuned in (False, True):
        pipes[tuned], theirs = context.Pipe()
        processes.append(context.Process(target=worker, args=(theirs, shape, tuned), daemon=True))
        processes[-1].start()
        theirs.close()  # so that a worker that ends early is an EOFError here, and no wait
        pipes[tuned].recv()
    taken: Taken = {key: [] for key in TIMED}
    for round_ in range(steps + 1):
        if round_ == 1:  # the first one warms up
            watch = ForeignTime([process.pid or 0 for process in processes])
        for tuned, name in TIMED:
            pipes[tuned].send(name)
            step = pipes[tuned].recv()
            if round_ > 0:
                taken[tuned, name].append(step)
    foreign = watch.share()
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(None)
        process.join()
    return taken, foreign


def table(taken: Taken, shape: Shape) -> list[dict[str, Any]]:
    """A row a variant: tokens/s of the median step, ratios to stock (over 1 is faster)."""
    base_wall, base_cpu = _medians(taken[False, "stock"])
    rows = []
    for (tuned, name), steps in taken.items():
        wall, cpu = _medians(steps)
        rows.append(
            {
                "variant": name + (" + mallopt" if tuned else ""),
                "tokens_per_second": round(shape.batch * shape.context / wall),
                "against_stock": round(base_wall / wall, 3),
                "against_stock_cpu_time": round(base_cpu / cpu, 3),
                "step_ms": round(1e3 * wall, 2),
                "step_cpu_ms": round(1e3 * cpu, 2),
            }
        )
    return rows


def _medians(steps: list[tuple[float, float]]) -> tuple[float, float]:
    wall, cpu = zip(*steps, strict=True)
    return statistics.median(wall), statistics.median(cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    sizes = {"layers": 2, "width": 256, "vocab-size": 2048, "context": 128, "batch": 16}
    for name, default in {**sizes, "threads": 2, "steps": 8}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/cpu_basics-*.json")
    chosen = vars(parser.parse_args())
    output, steps = chosen.pop("output"), chosen.pop("steps")
    shape = Shape(**chosen)
    taken, foreign = measure(shape, steps)
    rows = table(taken, shape)
    for row in rows:
        speed = f"{row['tokens_per_second']:8,} tokens/s {row['against_stock']:6.2f}"
        cpu = f"CPU {row['step_cpu_ms']:8.1f} ms {row['against_stock_cpu_time']:6.2f}"
        print(f"{row['variant']:34}{speed}   {cpu}")
    name = f"cpu_basics-{shape.layers}x{shape.width}-v{shape.vocab_size}"
    write_result(name, {"shape": asdict(shape), "steps": steps, "rows": rows}, foreign, output)


if __name__ == "__main__":
    main()
