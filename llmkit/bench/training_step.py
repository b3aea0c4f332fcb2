"""One training step of a GPT-2 with patches: does it agree with stock, how fast, how much memory.

First the gradients are compared with stock's in float32, and a variant that is further off than
stock itself is in the same dtype is not timed.
"""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# layers, width, heads, vocabulary: `small` is the CPU benchmark's, the others are GPT-2's own.
SIZES = {
    "tiny": (1, 32, 2, 101),
    "small": (6, 384, 6, 8192),
    "124m": (12, 768, 12, 50_257),
    "350m": (24, 1024, 16, 50_257),
    "774m": (36, 1280, 20, 50_257),
    "1558m": (48, 1600, 25, 50_257),
}
WARM_UP_STEPS = 2
# A variant may be this many times as far from float32 as stock in the same dtype, and this far.
WORSE_THAN_STOCK, ROUNDING = 1.5, 2e-5


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One training step: a GPT-2 of `SIZES[size]` on `batch` rows of `context` random tokens.

    `config` has keys of GPT2Config that are to differ from that.
    """

    size: str
    batch: int
    context: int
    steps: int
    dtype: str  # of autocast: float32 (none) or bfloat16
    device: str
    threads: int = 0  # 0: as torch chooses
    config: dict[str, Any] = field(default_factory=dict)


def measure(workload: Workload, patches: list[str], compiled: bool) -> dict[str, Any]:
    """Agreement, then speed and memory, of one variant in this process."""
    import torch

    from llmkit.device import tune_allocator
    from llmkit.patch import patched

    tune_allocator()
    if workload.threads:
        torch.set_num_threads(workload.threads)
    base = _resident_mb()
    model = make_model(workload)
    errors = agreement(model, workload, patches)
    bound = max(WORSE_THAN_STOCK * errors["stock"], ROUNDING)
    row = {"gradient_error": errors["patched"], "stock_gradient_error": errors["stock"]}
    if not errors["patched"] < bound:
        return row | {"error": f"disagrees with stock: {errors['patched']:.1e}, bound {bound:.1e}"}
    if workload.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with patched(model, patches):
        step = training_step(model, workload, compiled)
        began = time.perf_counter()
        step()
        _wait(workload.device)
        first = time.perf_counter() - began
        seconds, cpu_seconds = timed(step, workload)
    row |= {"step_ms": 1e3 * seconds, "first_step_s": round(first, 2)}
    if workload.device == "cpu":
        row["step_cpu_ms"] = 1e3 * cpu_seconds
    row["tokens_per_second"] = workload.batch * workload.context / seconds
    row["peak_memory_mb"] = peak_mb(workload.device) - (base if workload.device == "cpu" else 0)
    return row


def make_model(workload: Workload) -> Any:
    """The GPT-2 of the workload with random weights, float32, no dropout, no cache."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    layers, width, heads, vocab_size = SIZES[workload.size]
    torch.manual_seed(0)
    keys: dict[str, Any] = {
        "vocab_size": vocab_size, "n_positions": workload.context, "n_embd": width,
        "n_layer": layers, "n_head": heads, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
        "attn_pdrop": 0.0, "use_cache": False, "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    config = GPT2Config(**keys | workload.config)
    with torch.device(workload.device):  # drawn there: a CPU takes long over 1.5 billion
        model = GPT2LMHeadModel(config)
    model.loss_type = "ForCausalLM"
    return model


def tokens(workload: Workload, rows: int) -> Any:
    """Random ids (rows, context) on the device, the same each time."""
    import torch

    torch.manual_seed(1)
    vocab_size = workload.config.get("vocab_size", SIZES[workload.size][3])
    return torch.randint(vocab_size, (rows, workload.context)).to(workload.device)


def forward(model: Any, workload: Workload, ids: Any) -> Any:
    """The loss on `ids` under the workload's autocast."""
    import torch

    low = workload.dtype == "bfloat16"
    with torch.autocast(workload.device, dtype=torch.bfloat16, enabled=low):
        return model(input_ids=ids, labels=ids).loss


def agreement(model: Any, workload: Workload, patches: list[str]) -> dict[str, float]:
    """Error norm over norm of all gradients and the loss together, of one row, against float32."""
    import torch

    from llmkit.patch import patched

    ids = tokens(workload, 1)

    def gradients(dtype: str, names: list[str]) -> Any:
        model.zero_grad()
        with patched(model, names):
            loss = forward(model, Workload(**asdict(workload) | {"dtype": dtype}), ids)
            loss.backward()
        parts = [loss.detach().float()[None]]
        parts += [parameter.grad.flatten() for parameter in model.parameters()]
        model.zero_grad()
        return torch.cat(parts)

    truth = gradients("float32", [])
    found = {"stock": gradients(workload.dtype, []), "patched": gradients(workload.dtype, patches)}
    return {k: ((v - truth).norm() / truth.norm()).item() for k, v in found.items()}


def training_step(model: Any, workload: Workload, compiled: bool) -> Callable[[], None]:
    """What a trainer does: forward with labels, backward, clipping, fused AdamW."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    runs = torch.compile(model) if compiled else model
    ids = tokens(workload, workload.batch)

    def step() -> None:
        forward(runs, workload, ids).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def timed(step: Callable[[], None], workload: Workload) -> tuple[float, float]:
    """Seconds of the median step, by the wall and by this process's CPU time.

    The CPU waits for the device after each step. CPU time tells variants apart even where others
    use the machine.
    """
    taken = []
    for number in range(WARM_UP_STEPS + workload.steps):
        began, began_cpu = time.perf_counter(), time.process_time()
        step()
        _wait(workload.device)
        if number >= WARM_UP_STEPS:
            taken.append((time.perf_counter() - began, time.process_time() - began_cpu))
    wall, cpu = zip(*taken, strict=True)
    return statistics.median(wall), statistics.median(cpu)


def _wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def _resident_mb() -> float:
    """This process's memory now (Linux; elsewhere its peak so far)."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return peak_mb("cpu")


def peak_mb(device: str) -> float:
    """Most memory held at once: by torch on a GPU, by the process on a CPU."""
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
