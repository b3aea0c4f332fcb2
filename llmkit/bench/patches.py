"""`llmkit bench patches`: what each patch gains on this machine, beside stock and compiled stock.

One table and one JSON line. Every variant trains in a process of its own (so that peak memory is
its own), with the same seed, batch, fused AdamW, clipping and allocator setting.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from typing import Any

from llmkit.bench.training_step import SIZES, Workload, make_model, measure
from llmkit.errors import UserError
from llmkit.stage import Facts
from llmkit.trainers.model_keys import shape_problems

ALL = "all patches"
PATCH_SETS: dict[str, list[str]] = {
    "stock": [],
    "attention": ["attention"],
    "layer_norm": ["layer_norm"],
    "gelu": ["gelu"],
    "fused_head_loss": ["fused_head_loss"],
    ALL: ["attention", "layer_norm", "gelu", "fused_head_loss"],
}
# Keys of GPT2Config that something else here says -> what.
SAID = {
    "n_positions": ("follows from --context", "leave it out"),
    "max_position_embeddings": ("follows from --context", "leave it out"),
    "dtype": ("weights are trained in float32", "--dtype says what a step computes in"),
}
DROPOUTS = ("attn_pdrop", "resid_pdrop", "embd_pdrop")
COMPILED = ("stock", ALL)
HEADING = (
    f"{'variant':24}{'tokens/s':>10}{'step ms':>10}{'CPU ms':>10}{'peak MB':>9}{'speed':>7}"
    "  gradient error"
)


def bench_patches(
    *,
    size: str | None = None,
    batch: int | None = None,
    context: int | None = None,
    steps: int = 5,
    dtype: str | None = None,
    compiled: bool = True,
    config: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Measure and print; returns the rows. What is not given suits the device.

    Args:
        config: keys of GPT2Config that differ from those of `size`.

    Raises:
        UserError: no such size, dtype or key, or a figure that the model cannot have.
    """
    workload = _workload(size, batch, context, steps, dtype)
    workload = replace(workload, config=_checked(dict(config or {}), workload.size))
    fitting = fitting_patches(workload, PATCH_SETS[ALL])
    print(" ".join(f"{key}={value}" for key, value in asdict(workload).items() if value))
    print(HEADING)
    rows: list[dict[str, Any]] = []
    for name, compile_ in variants(compiled and can_compile(workload.device)):
        chosen = fitting if name == ALL else PATCH_SETS[name]
        title = name + (", compiled" if compile_ else "")
        row = {"variant": title, "patches": chosen, **in_a_process(workload, chosen, compile_)}
        rows.append(row)
        print(line(row, rows[0]), flush=True)
    print(json.dumps({"benchmark": "patches", "workload": asdict(workload), "rows": rows}))
    return rows


def variants(compiled: bool) -> list[tuple[str, bool]]:
    """(patch set, whether compiled), stock first."""
    eager = [(name, False) for name in PATCH_SETS]
    return eager + ([(name, True) for name in COMPILED] if compiled else [])


def fitting_patches(workload: Workload, names: Sequence[str]) -> list[str]:
    """Those that the workload's model takes; it says which are left out, and why."""
    from llmkit.patch import patched

    shallow = replace(workload, device="meta", config=workload.config | {"n_layer": 1})
    model, fitting = make_model(shallow), []
    for name in names:
        try:
            with patched(model, [name]):
                fitting.append(name)
        except UserError as error:
            print(f"{ALL} without {name}: {error.what}")
    return fitting


def can_compile(device: str) -> bool:
    """On a CPU Inductor writes C++; without a compiler, say so and leave those variants out."""
    if device != "cpu" or shutil.which(os.environ.get("CXX", "g++")):
        return True
    print("compiled variants left out: torch.compile needs a C++ compiler (g++, or CXX names one)")
    return False


def _workload(
    size: str | None, batch: int | None, context: int | None, steps: int, dtype: str | None
) -> Workload:
    import torch

    from llmkit.device import has_fast_bf16

    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    size = size or ("124m" if cuda else "small")
    if size not in SIZES:
        raise UserError("--model", f"no size {size!r}", f"known are: {', '.join(SIZES)}")
    if dtype not in (None, "float32", "bfloat16"):
        raise UserError("--dtype", f"{dtype!r} is neither float32 nor bfloat16")
    workload = Workload(
        size=size,
        batch=(32 if cuda else 16) if batch is None else batch,
        context=(1024 if cuda else 256) if context is None else context,
        steps=steps,
        dtype=dtype or ("bfloat16" if has_fast_bf16(device) else "float32"),
        device=device,
    )
    for key in ("batch", "context", "steps"):
        if getattr(workload, key) < 1:
            raise UserError(f"--{key}", f"{getattr(workload, key)} is not positive")
    return workload


def _checked(config: dict[str, Any], size: str) -> dict[str, Any]:
    """Keys and values that GPT2Config takes, or UserError."""
    from llmkit.fields import config_fields
    from llmkit.wording import nearest, wording

    known = config_fields("gpt2")
    for key, value in config.items():
        if key not in known:
            raise UserError(key, "no such key in GPT2Config", nearest(key, known))
        if key in SAID:
            raise UserError(key, *SAID[key])
        if not known[key].accepts(value):
            raise UserError(key, f"{value!r} is not {wording(known[key])}")
        if type(value) is int and value < 1 and key.startswith(("n_", "vocab", "num_", "hidden")):
            raise UserError(key, f"{value} is not positive")
        if key in DROPOUTS and value != 0:
            why = "what is drawn differs between stock and patches, and they could not be compared"
            raise UserError(key, f"{value} is not 0: {why}", "leave it out")
    _check_heads(config, size)
    return config


def _check_heads(config: Mapping[str, Any], size: str) -> None:
    _, width, heads, _ = SIZES[size]
    width = config.get("n_embd", config.get("hidden_size", width))
    heads = config.get("n_head", config.get("num_attention_heads", heads))
    for problem in shape_problems({"n_embd": width, "n_head": heads}, Facts()):
        raise UserError(str(problem.path[-1]), problem.what, problem.remedy)


def in_a_process(workload: Workload, patches: Sequence[str], compiled: bool) -> dict[str, Any]:
    """`measure` in a fresh process, which says what went wrong if something does."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (theirs, workload, list(patches), compiled)
    process = context.Process(target=_answer, args=arguments, daemon=True)
    process.start()
    theirs.close()
    try:
        answer: dict[str, Any] = ours.recv()
    except EOFError:
        answer = {"error": "the process ended without an answer (out of memory?)"}
    process.join()
    return answer


def _answer(pipe: Connection, workload: Workload, patches: list[str], compiled: bool) -> None:
    try:
        answer = measure(workload, patches, compiled)
    except Exception as error:  # one variant's failure is a row of the table, not its end
        answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    pipe.send(answer)


def line(row: dict[str, Any], stock: dict[str, Any]) -> str:
    """One row of the table; `speed` is against stock eager."""
    if "error" in row:
        return f"{row['variant']:24}{row['error']}"
    ratio = stock["step_ms"] / row["step_ms"] if "step_ms" in stock else float("nan")
    return (
        f"{row['variant']:24}{row['tokens_per_second']:10,.0f}{row['step_ms']:10.1f}"
        f"{row.get('step_cpu_ms', 0.0):10.1f}"
        f"{row['peak_memory_mb']:9,.0f}{ratio:7.2f}  {row['gradient_error']:.1e}"
        f" (stock {row['stock_gradient_error']:.1e})"
    )
