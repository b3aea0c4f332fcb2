"""Peak memory of head and loss, forward and backward: stock beside `fused_head_loss`.

    python benchmarks/head_memory.py [--batch 8] [--context 1024] [--vocab-size 50257]

Each variant runs in a process of its own, in float32; its memory is the peak of the resident set
(as the kernel counts it, getrusage(2)) over what was there with the inputs made. Losses and the
norms of the gradients are compared before the figures are told.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from machine import ForeignTime, write_result

TOLERANCE = 1e-5  # of the loss and of the gradients' norms, relative
BOUND = 0.20  # of stock's peak


def worker(pipe: Connection, fused: bool, shape: dict[str, int]) -> None:
    import torch
    from torch.nn import functional

    from llmkit.kernels.fused_head_loss import fused_head_loss

    torch.manual_seed(0)
    num_rows = shape["batch"] * shape["context"]
    hidden = torch.randn(num_rows, shape["width"]).requires_grad_()
    weight = (0.02 * torch.randn(shape["vocab_size"], shape["width"])).requires_grad_()
    targets = torch.randint(shape["vocab_size"], (num_rows,))
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if fused:
        loss = fused_head_loss(hidden, weight, targets)
    else:  # as ForCausalLMLoss of transformers computes it
        loss = functional.cross_entropy((hidden @ weight.T).float(), targets)
    loss.backward()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert hidden.grad is not None and weight.grad is not None
    pipe.send(
        {
            "peak_mb": round((peak - before) / 2**20, 1),
            "loss": loss.item(),
            "grad_hidden": hidden.grad.norm().item(),
            "grad_weight": weight.grad.norm().item(),
        }
    )


def measure(fused: bool, shape: dict[str, int]) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=worker, args=(theirs, fused, shape), daemon=True)
    process.start()
    theirs.close()
    row: dict[str, Any] = ours.recv()
    process.join()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    sizes = {"batch": 8, "context": 1024, "width": 768, "vocab-size": 50_257}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/head_memory.json")
    shape = vars(parser.parse_args())
    output = shape.pop("output")
    watch = ForeignTime()
    rows = {name: measure(name == "fused", shape) for name in ("stock", "fused")}
    stock, fused = rows.values()
    for key in ("loss", "grad_hidden", "grad_weight"):
        if abs(fused[key] / stock[key] - 1) > TOLERANCE:
            raise SystemExit(f"{key} disagrees: {fused[key]} and {stock[key]}")
    share = fused["peak_mb"] / stock["peak_mb"]
    for name, row in rows.items():
        print(f"{name:8}{row['peak_mb']:10,.1f} MB")
    print(f"{share:.1%} of stock ({'within' if share <= BOUND else 'above'} {BOUND:.0%})")
    write_result(
        "head_memory", {"shape": shape, "rows": rows, "share": share}, watch.share(), output
    )


if __name__ == "__main__":
    main()
