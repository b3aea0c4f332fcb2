"""Every Triton kernel, forward and every gradient, against float64 truth on the same device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu.setting import Setting

# Error norm over truth norm. bfloat16 keeps 8 bits; a sum over a vocabulary of products of rounded
# factors has a few of their roundings.
BOUNDS = {torch.float32: 3e-5, torch.bfloat16: 2e-2}
DRY_SHAPES = {"gelu": [(3, 33)], "norm": [(3, 33)], "head": [(9, 7, 70)]}
SHAPES = {
    "gelu": [(1,), (7, 1021), (4096, 3072)],
    "norm": [(1, 3), (1023, 768), (4096, 1600), (8192, 1280)],
    # odd ones, GPT-2's own with several chunks, and one with a long row
    "head": [(1, 8, 16), (63, 72, 1009), (6_000, 768, 50_257), (257, 1600, 50_257)],
}
Values = tuple[list[Tensor], list[Tensor]]  # outputs, leaves


def check_all(setting: Setting) -> dict[str, Any]:
    """A row a check; `failures` names those that are out of bounds or raised."""
    torch.set_float32_matmul_precision("highest")
    rows: list[dict[str, Any]] = []
    shapes = DRY_SHAPES if setting.dry else SHAPES
    for operation, (kind, fused, truth) in OPERATIONS.items():
        for shape in shapes[kind]:
            for dtype in BOUNDS:
                row = {"operation": operation, "shape": shape, "dtype": str(dtype)}
                try:
                    row |= compare(fused, truth, shape, dtype, setting.device)
                except Exception as error:  # one kernel's failure must not hide another's
                    row |= {"ok": False, "error": f"{type(error).__name__}: {error}"[:2000]}
                rows.append(row)
                print(row, flush=True)
                setting.forget()
    failures = [f"{r['operation']} {r['shape']} {r['dtype']}" for r in rows if not r["ok"]]
    return {"rows": rows, "failures": failures}


def compare(
    fused: Callable[..., Values],
    truth: Callable[..., Values],
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: str,
) -> dict[str, Any]:
    """The largest error over outputs and gradients."""
    errors = []
    found, true = fused(shape, dtype, device), truth(shape, dtype, device)
    for name, value, reference in named(found, true):
        error = (value.double() - reference.double()).norm() / reference.double().norm()
        errors.append((name, error.item()))
    worst = max(errors, key=lambda item: item[1] if item[1] == item[1] else float("inf"))
    return {"errors": dict(errors), "bound": BOUNDS[dtype], "ok": worst[1] < BOUNDS[dtype]}


def named(found: Values, truth: Values) -> list[tuple[str, Tensor, Tensor]]:
    """Outputs, then gradients after one weighted sum of all outputs."""
    pairs = [(f"output {i}", a, b) for i, (a, b) in enumerate(zip(found[0], truth[0], strict=True))]
    for outputs, _ in (found, truth):
        generator = torch.Generator(device=outputs[0].device).manual_seed(7)
        total = torch.zeros((), dtype=torch.float64, device=outputs[0].device)
        for output in outputs:
            weights = torch.randn(
                output.shape, generator=generator, device=output.device, dtype=torch.float32
            )
            total = total + (output.double() * weights.double()).sum()
        total.backward()
    for i, (a, b) in enumerate(zip(found[1], truth[1], strict=True)):
        pairs.append((f"gradient {i}", a.grad, b.grad))
    return [(name, a.detach(), b.detach()) for name, a, b in pairs]


def leaf(shape: tuple[int, ...], dtype: torch.dtype, device: str, seed: int) -> Tensor:
    """The same random numbers each time, rounded to `dtype`."""
    torch.manual_seed(seed)
    return torch.randn(shape).to(dtype).to(device)


def targets_of(shape: tuple[int, ...], device: str) -> Tensor:
    torch.manual_seed(3)
    targets = torch.randint(shape[2], (shape[0],))
    targets[1::5] = -100
    return targets.to(device)


def leaves(*tensors: Tensor, double: bool) -> list[Tensor]:
    return [(x.double() if double else x).requires_grad_() for x in tensors]


def gelu_fused(shape: Any, dtype: Any, device: str) -> Values:
    from llmkit.kernels.gelu.fused import gelu

    (x,) = leaves(3 * leaf(shape, dtype, device, 0), double=False)
    return [gelu(x)], [x]


def gelu_truth(shape: Any, dtype: Any, device: str) -> Values:
    (x,) = leaves(3 * leaf(shape, dtype, device, 0), double=True)
    return [functional.gelu(x, approximate="tanh")], [x]


def norm_inputs(shape: Any, dtype: Any, device: str, double: bool) -> list[Tensor]:
    """x in `dtype`; residual stream, weight and bias in float32, as under autocast."""
    width = (shape[-1],)
    x, residual = leaf(shape, dtype, device, 0), leaf(shape, torch.float32, device, 1)
    weight, bias = (leaf(width, torch.float32, device, seed) for seed in (2, 3))
    return leaves(x, residual, 1 + weight, bias, double=double)


def norm_fused(shape: Any, dtype: Any, device: str) -> Values:
    from llmkit.kernels.layer_norm.fused import add_layer_norm

    given = norm_inputs(shape, dtype, device, double=False)
    with torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        return list(add_layer_norm(*given, 1e-5)), given


def norm_truth(shape: Any, dtype: Any, device: str) -> Values:
    x, residual, weight, bias = given = norm_inputs(shape, dtype, device, double=True)
    r = x + residual
    return [r, functional.layer_norm(r, (shape[-1],), weight, bias, 1e-5)], given


def head_inputs(shape: Any, dtype: Any, device: str, double: bool) -> list[Tensor]:
    num_rows, width, vocab_size = shape
    hidden = leaf((num_rows, width), dtype, device, 0)
    weight = leaf((vocab_size, width), dtype, device, 1) * 0.1
    return leaves(hidden, weight, double=double)


def head_fused(shape: Any, dtype: Any, device: str) -> Values:
    from llmkit.kernels.fused_head_loss import fused, fused_head_loss

    given = head_inputs(shape, dtype, device, double=False)
    loss = fused_head_loss(
        *given, targets_of(shape, device), 17, cross_entropy=fused.cross_entropy_
    )
    return [loss], given


def head_truth(shape: Any, dtype: Any, device: str) -> Values:
    hidden, weight = given = head_inputs(shape, dtype, device, double=True)
    targets = targets_of(shape, device)
    losses = [
        functional.cross_entropy(hidden[part] @ weight.T, targets[part], reduction="sum")
        for part in torch.arange(shape[0], device=device).split(2048)
    ]
    return [torch.stack(losses).sum() / 17], given


def log_probs_fused(shape: Any, dtype: Any, device: str) -> Values:
    from llmkit.kernels.token_log_probs import fused, token_log_probs

    given = head_inputs(shape, dtype, device, double=False)
    return list(token_log_probs(*given, targets_of(shape, device), form=fused)), given


def log_probs_truth(shape: Any, dtype: Any, device: str) -> Values:
    from llmkit.kernels.token_log_probs.reference import token_log_probs

    hidden, weight = given = head_inputs(shape, dtype, device, double=True)
    targets = targets_of(shape, device)
    parts = [
        token_log_probs(hidden[part], weight, targets[part])
        for part in torch.arange(shape[0], device=device).split(2048)
    ]
    return [torch.cat(values) for values in zip(*parts, strict=True)], given


OPERATIONS = {
    "gelu": ("gelu", gelu_fused, gelu_truth),
    "add_layer_norm": ("norm", norm_fused, norm_truth),
    "fused_head_loss": ("head", head_fused, head_truth),
    "token_log_probs": ("head", log_probs_fused, log_probs_truth),
}
