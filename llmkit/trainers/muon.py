"""Muon for the hidden matrices, AdamW for the rest, in one optimizer.

Muon (Keller Jordan, https://kellerjordan.github.io/posts/muon/) replaces the momentum update of a
matrix by the nearest orthogonal one, found by five Newton-Schulz iterations:

    B <- mu B + (1 - mu) G;   U = mu B + (1 - mu) G          (Nesterov)
    X = U / |U|_F;   five times  X <- a X + (b A + c A A) X,  A = X X'
    W <- (1 - lr decay) W - lr sqrt(max(1, fan_out / fan_in)) X

`torch.optim.Muon` does the same one matrix after another. Small models have many matrices of few
shapes, so here all matrices of one shape go through one batched product (5 times the steps a second
on a small GPT-2). Two things that a matrix does not say about itself are read from its module:

- GPT-2's `Conv1D` keeps (in, out), `nn.Linear` (out, in). Orthogonalisation does not mind the
  transposition, the learning-rate scale does; it goes by fan_out / fan_in in both.
- `c_attn` holds query, key and value side by side. They are three matrices and are orthogonalised
  as three: one orthogonal (E, 3E) would tie them to each other.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from transformers import TrainingArguments
from transformers.pytorch_utils import Conv1D

from llmkit.device import has_fast_bf16
from llmkit.trainers.settings import MuonSettings

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
EPSILON = 1e-7


def newton_schulz(
    matrices: Tensor, iterations: int = 5, dtype: torch.dtype | None = None
) -> Tensor:
    """Orthogonalise a batch: singular values go to about 1 (0.7 to 1.2), singular vectors stay.

    Args:
        matrices: (n, rows, columns) with rows <= columns.
        dtype: to compute in; bfloat16 suffices and is the published choice.

    Returns:
        (n, rows, columns) in `dtype`.
    """
    a, b, c = COEFFICIENTS
    x = matrices.to(dtype or matrices.dtype)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=EPSILON)
    if x.shape[2] >= 2 * x.shape[1] and x.dtype != torch.bfloat16:
        return _by_gram_matrix(x, iterations)
    for _ in range(iterations):
        gram = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x


def _by_gram_matrix(x: Tensor, iterations: int) -> Tensor:
    """The same iteration for wide matrices, without touching their long side in between.

    Every iterate is Q X with Q a polynomial in A = X X', and A itself goes to P A P for
    P = a + b A + c A A (all of them commute). With four times as many columns as rows this is 0.58
    of the work. It squares the singular values, for which bfloat16 has too few digits; in float32
    the result is within 2e-4 of float64 even for matrices of low rank.
    """
    a, b, c = COEFFICIENTS
    gram = torch.bmm(x, x.mT)
    product: Tensor | None = None  # Q
    for step in range(iterations):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # P without its a
        if product is None:
            product = polynomial.clone()
            product.diagonal(dim1=1, dim2=2).add_(a)
        else:
            product = torch.baddbmm(product, polynomial, product, beta=a)
        if step < iterations - 1:
            half = torch.baddbmm(gram, polynomial, gram, beta=a)
            gram = torch.baddbmm(half, polynomial, half, beta=a)
    return x if product is None else torch.bmm(product, x)


class Muon(torch.optim.Optimizer):
    """Groups with `algorithm: "muon"` hold matrices, those with `"adamw"` the rest.

    Args:
        groups: parameter groups with `algorithm`, `lr`, `weight_decay`, and for muon `momentum`,
            `iterations`, `parts` (matrices side by side in each parameter, along its longer
            fused axis) and `transposed` (whether each is kept as (in, out)); for adamw `betas`
            and `eps`. `parts` and `transposed` are lists beside `params`.
        dtype: of the Newton-Schulz products.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], dtype: torch.dtype) -> None:
        super().__init__(groups, {})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["algorithm"] == "muon":
                self._muon_step(group)
            else:
                self._adamw_step(group)
        return loss

    def _muon_step(self, group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor, float]]] = defaultdict(list)
        for parameter, parts, transposed in zip(
            group["params"], group["parts"], group["transposed"], strict=True
        ):
            if parameter.grad is None:
                continue
            update = self._momentum(parameter, group["momentum"])
            axis = 1 if transposed else 0
            for weight, part in zip(
                parameter.chunk(parts, axis), update.chunk(parts, axis), strict=True
            ):
                fan_out, fan_in = part.shape[::-1] if transposed else part.shape
                scale = math.sqrt(max(1.0, fan_out / fan_in))
                wide = part if part.shape[0] <= part.shape[1] else part.mT
                target = weight if part.shape[0] <= part.shape[1] else weight.mT
                by_shape[wide.shape].append((target, wide, scale))
        for entries in by_shape.values():
            stacked = torch.stack([update for _, update, _ in entries])
            directions = newton_schulz(stacked, group["iterations"], self.dtype)
            for (target, _, scale), direction in zip(entries, directions, strict=True):
                target.mul_(1 - group["lr"] * group["weight_decay"])
                target.add_(direction, alpha=-group["lr"] * scale)

    def _momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        """The Nesterov average of the gradients, shaped like `parameter`."""
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        average = state["momentum_buffer"]
        average.lerp_(parameter.grad, 1 - momentum)
        assert parameter.grad is not None
        return parameter.grad.lerp(average, momentum)

    def _adamw_step(self, group: dict[str, Any]) -> None:
        trained = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not trained:
            return
        for parameter in trained:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in trained]
        adamw(
            trained,
            [parameter.grad for parameter in trained if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def hidden_matrices(model: nn.Module) -> dict[str, tuple[nn.Parameter, int, bool]]:
    """Name -> (parameter, parts, transposed) of what Muon trains in `model`.

    These are the weights of linear layers, but not of the head (tied to the embedding or not) and
    not of one with a single output, such as a reward head.
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()
    excluded = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    excluded |= {id(head.weight)} if head is not None else set()
    found = {}
    for name, module in model.named_modules():
        if not isinstance(module, (nn.Linear, Conv1D)):
            continue
        weight, transposed = module.weight, isinstance(module, Conv1D)
        if id(weight) in excluded or not weight.requires_grad or min(weight.shape) == 1:
            continue
        parts = weight.shape[1] // weight.shape[0] if name.endswith("c_attn") else 1
        found[f"{name}.weight"] = (weight, parts, transposed)
    return found


def muon_for(
    model: nn.Module,
    args: TrainingArguments,
    settings: MuonSettings,
    decayed: Iterable[str],
) -> Muon:
    """The optimizer of `model`: AdamW from `args`, Muon from `settings`.

    Args:
        decayed: names of the parameters that `args.weight_decay` is for (Hugging Face's rule).
    """
    matrices, decayed = hidden_matrices(model), set(decayed)
    inside = {id(parameter) for parameter, _, _ in matrices.values()}
    rest = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and id(parameter) not in inside
    }
    groups = [
        # First, because the learning rate that the trainer logs is the first group's.
        _adamw_group([p for name, p in rest.items() if name in decayed], args, args.weight_decay),
        _adamw_group([p for name, p in rest.items() if name not in decayed], args, 0.0),
        {
            "algorithm": "muon",
            "params": [parameter for parameter, _, _ in matrices.values()],
            "parts": [parts for _, parts, _ in matrices.values()],
            "transposed": [transposed for _, _, transposed in matrices.values()],
            "lr": settings.learning_rate,
            "weight_decay": settings.weight_decay,
            "momentum": settings.momentum,
            "iterations": settings.iterations,
        },
    ]
    fast = has_fast_bf16(next(model.parameters()).device.type)
    dtype = torch.bfloat16 if fast else torch.float32
    return Muon([group for group in groups if group["params"]], dtype)


def _adamw_group(
    parameters: list[nn.Parameter], args: TrainingArguments, weight_decay: float
) -> dict[str, Any]:
    return {
        "algorithm": "adamw",
        "params": parameters,
        "lr": args.learning_rate,
        "weight_decay": weight_decay,
        "betas": (args.adam_beta1, args.adam_beta2),
        "eps": args.adam_epsilon,
    }
