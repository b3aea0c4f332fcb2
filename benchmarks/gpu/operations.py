"""Each operation, forward and backward, beside torch's own, torch.compile's and Liger's."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu.setting import Setting
from benchmarks.gpu.training import attempt
from llmkit.kernels import head_chunks

REPEATS, WARM_UP = 20, 3
Forms = dict[str, Callable[..., Tensor]]


def time_all(setting: Setting) -> dict[str, Any]:
    """Milliseconds (median) and peak memory of every form at GPT-2's shapes."""
    rows: list[dict[str, Any]] = []
    dtype = torch.bfloat16
    makers = {"gelu": gelu_forms, "layer_norm": norm_forms, "fused_head_loss": head_forms}
    for name, shape in setting.operations.items():
        leaves, forms = makers[name](shape, dtype, setting.device)
        if setting.dry:
            forms = {key: form for key, form in forms.items() if "compiled" not in key}
        for form, function in forms.items():
            row: dict[str, Any] = {"operation": name, "form": form, "shape": shape}
            if setting.left() <= 0:
                row["error"] = "not measured: out of time"
            else:
                row |= attempt(lambda: time_one(function, leaves, setting))  # noqa: B023
            rows.append(row)
            print(row, flush=True)
    rows += chunk_sizes(setting) if "fused_head_loss" in setting.operations else []
    failures = [
        f"{row['operation']}, {row['form']}: {row['error']}"
        for row in rows
        if "error" in row and not row["error"].startswith(("not measured", "ModuleNotFoundError"))
    ]
    return {"rows": rows, "failures": failures}


def time_one(
    function: Callable[..., Tensor], leaves: list[Tensor], setting: Setting
) -> dict[str, float]:
    """Forward and backward together, each repeat alone between two readings of the clock."""
    now, seconds = setting.clock(), []
    setting.forget()
    warm_up, repeats = (0, 1) if setting.dry else (WARM_UP, REPEATS)
    for number in range(warm_up + repeats):
        for leaf in leaves:
            leaf.grad = None
        began = now()
        out = function(*leaves)
        out.backward(torch.ones_like(out))
        ended = now()
        if number >= warm_up:
            seconds.append(ended - began)
    row = {"ms": round(1e3 * sorted(seconds)[len(seconds) // 2], 4)}
    if setting.device == "cuda":
        row["peak_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return row


def _leaves(device: str, *given: tuple[tuple[int, ...], torch.dtype]) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(s).to(device=device, dtype=d).requires_grad_() for s, d in given]


def gelu_forms(shape: Any, dtype: Any, device: str) -> tuple[list[Tensor], Forms]:
    from llmkit.kernels.gelu import fused, reference

    return _leaves(device, (shape, dtype)), {
        "triton": fused.gelu,
        "torch": lambda x: functional.gelu(x, approximate="tanh"),
        "compiled formula": torch.compile(reference.gelu),
        # it multiplies by a second tensor besides, and has no GELU alone
        "liger's gated form": lambda x: importlib.import_module("liger_kernel.ops.geglu")
        .LigerGELUMulFunction.apply(x, torch.ones_like(x)),
    }  # fmt: skip


def norm_forms(shape: Any, dtype: Any, device: str) -> tuple[list[Tensor], Forms]:
    """The residual stream is float32 and x bfloat16, as under autocast."""
    from llmkit.kernels.layer_norm import fused, torch_native

    width = (shape[-1],)
    leaves = _leaves(device, (shape, dtype), (shape, torch.float32), *[(width, torch.float32)] * 2)

    def by(add_layer_norm: Callable[..., Any]) -> Callable[..., Tensor]:
        def both(*given: Tensor) -> Tensor:
            with torch.autocast(device, dtype=dtype):
                r, y = add_layer_norm(*given, 1e-5)
            return r + y  # so that a gradient arrives at both

        return both

    def liger(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        module = importlib.import_module("liger_kernel.ops.layer_norm")
        r = x + residual
        y: Tensor = module.LigerLayerNormFunction.apply(r, weight, bias, 1e-5)
        return r + y

    return leaves, {
        "triton": by(fused.add_layer_norm),
        "torch": by(torch_native.add_layer_norm),
        "compiled": torch.compile(by(torch_native.add_layer_norm)),
        "liger": liger,
    }


def head_forms(shape: Any, dtype: Any, device: str) -> tuple[list[Tensor], Forms]:
    """hidden and weight in bfloat16, as autocast hands them on."""
    from llmkit.kernels.fused_head_loss import fused, fused_head_loss, torch_native

    num_rows, width, vocab_size = shape
    leaves = _leaves(device, ((num_rows, width), dtype), ((vocab_size, width), dtype))
    targets = torch.randint(vocab_size, (num_rows,), device=device)

    def stock(hidden: Tensor, weight: Tensor) -> Tensor:
        return functional.cross_entropy((hidden @ weight.T).float(), targets)

    def ours(cross_entropy: Any) -> Callable[..., Tensor]:
        return lambda h, w: fused_head_loss(h, w, targets, cross_entropy=cross_entropy)

    def liger(hidden: Tensor, weight: Tensor) -> Tensor:
        module = importlib.import_module("liger_kernel.transformers.functional")
        loss: Tensor = module.liger_fused_linear_cross_entropy(hidden, weight, targets)
        return loss

    return leaves, {
        "triton": ours(fused.cross_entropy_),
        "torch, chunked": ours(torch_native.cross_entropy_),
        "stock": stock,
        "compiled stock": torch.compile(stock),
        "liger": liger,
    }


def chunk_sizes(setting: Setting) -> list[dict[str, Any]]:
    """`fused_head_loss` by the number of logits alive at once."""
    before = dict(head_chunks.CHUNK_ELEMENTS)
    shape = setting.operations["fused_head_loss"]
    leaves, forms = head_forms(shape, torch.bfloat16, setting.device)
    rows = []
    for bits in (28,) if setting.dry else (24, 26, 27, 28, 29, 30):
        row: dict[str, Any] = {"operation": "fused_head_loss", "form": f"triton, 2^{bits} logits"}
        if setting.left() <= 0:
            row["error"] = "not measured: out of time"
        else:
            head_chunks.CHUNK_ELEMENTS[setting.device] = 1 << bits
            row |= attempt(lambda: time_one(forms["triton"], leaves, setting))  # noqa: B023
        rows.append(row)
        print(row, flush=True)
    head_chunks.CHUNK_ELEMENTS.update(before)
    return rows
