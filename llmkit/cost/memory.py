"""The peak memory of a training, part by part, in bytes for each rank.

    weights        4 N       float32
    gradients      4 N       and 4 N more where DDP keeps a copy in its buckets
    optimizer      8 N       AdamW; less for those of `MOMENTS`; Muon keeps 4 for a hidden matrix
    copies         2 M       of the matrices, in the bfloat16 that autocast computes in
    activations              what the backward pass of stock transformers keeps, see `of_a_layer`
    loss                     head and cross-entropy: of all logits, or of a few rows at a time
    runtime                  interpreter, libraries and, on a GPU, its context

    peak = the sum, and once more a layer's activations, which its backward pass works on

Activations are freed, layer by layer, while gradients come, but the first of a step's passes leaves
gaps that the next does not fill: measured on a CPU, the sum is what is reached (docs/plan.md).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from llmkit.cost.hardware import CPUS, Hardware
from llmkit.cost.shapes import Shape

Sharding = Literal["none", "zero2", "fsdp2"]
MIB = 2**20
# Logits that `fused_head_loss` holds at a time, and the fewest rows of them
# (llmkit/kernels/head_chunks.py).
FUSED_LOGITS, FUSED_ROWS = {"cpu": 2**22, "gpu": 2**28}, 128
ADAMW = 8  # bytes a parameter: two float32 moments
# Other words of `args.optim` -> bytes a parameter.
MOMENTS = {
    "sgd": 0,
    "adafactor": 0,  # a row and a column of each matrix
    "adamw_8bit": 2,
    "adamw_bnb_8bit": 2,
    "paged_adamw_8bit": 2,
    "lion_8bit": 1,
    "lion_32bit": 4,
}


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one rank does in a pass.

    Attributes:
        rows, length: of a batch.
        passes: that make up a step (gradient accumulation); they take no memory of their own.
        half: whether autocast computes in two bytes instead of four.
        patches: those that are lent to the model.
        recompute: activation checkpointing.
        optimizer: `muon`, or a word of `args.optim`.
        trained: share of the parameters that is trained (LoRA's is small).
        forwards: further models that only look: a reference, a reward model.
        trainings: models that are trained, such as policy and value model.
        ranks: processes that share the work, and sharding: what of it they share.
    """

    rows: int
    length: int
    passes: int = 1
    half: bool = True
    patches: Collection[str] = ()
    recompute: bool = False
    optimizer: str = "adamw"
    trained: float = 1.0
    forwards: int = 0
    trainings: int = 1
    head_loss: bool = True
    ranks: int = 1
    sharding: Sharding = "none"

    @property
    def tokens(self) -> int:
        return self.rows * self.length

    def with_(self, **changes: object) -> Load:
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes by part; `peak` is their sum and a layer's activations more."""

    weights: float
    gradients: float
    optimizer: float
    copies: float
    activations: float
    loss: float
    runtime: float
    peak: float


def memory_of(shape: Shape, load: Load, hardware: Hardware) -> Memory:
    """The parts and the peak of one rank."""
    n, shared = shape.parameters, load.ranks
    over = {"weights": 1, "grads": 1, "optimizer": 1}
    if load.sharding != "none":
        over |= {"grads": shared, "optimizer": shared}
    if load.sharding == "fsdp2":
        over["weights"] = shared
    trained = n * load.trained * load.trainings
    weights = 4 * n * (load.trainings + load.forwards) / over["weights"]
    buckets = 4 * trained if load.ranks > 1 and load.sharding == "none" else 0
    gradients = 4 * trained / over["grads"] + buckets
    optimizer = optimizer_bytes(shape, load) / over["optimizer"]
    copies = 2 * multiplied(shape) if load.half else 0
    layer = of_a_layer(shape, load)
    kept = shape.layers * (load.tokens * shape.width * 4 if load.recompute else layer)
    activations = kept + (layer if load.recompute else 0) + of_the_ends(shape, load)
    loss = loss_bytes(shape, load, hardware)
    own = runtime(hardware)
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        copies=copies,
        activations=activations,
        loss=loss,
        runtime=own,
        peak=weights + gradients + optimizer + copies + activations + loss + own + layer,
    )


def multiplied(shape: Shape) -> int:
    """Parameters of all matrices that a token is multiplied with, the head among them."""
    return shape.hidden_matrices + shape.embedding


def optimizer_bytes(shape: Shape, load: Load) -> float:
    """Two float32 moments a trained parameter; one for a matrix of Muon's."""
    hidden = shape.hidden_matrices if load.optimizer == "muon" else 0
    moments = MOMENTS.get(load.optimizer, ADAMW)
    whole = moments * (shape.parameters - hidden) + 4 * hidden
    return whole * load.trained * load.trainings


def of_a_layer(shape: Shape, load: Load) -> float:
    """Bytes that a layer keeps for its backward pass.

    Two residuals in float32, which the norms read again; and in the precision of the products: both
    normalised inputs, queries, keys and values, what attention gives, and the feed-forward layer
    before and behind its nonlinearity. GPT-2's spelled-out GELU keeps four float32 tensors more,
    and dropout a mask and its output.
    """
    size = 2 if load.half else 4
    products = 2 * shape.width + 2 * shape.attention_width + 2 * shape.key_width
    products += (3 if shape.gated else 2) * shape.inner
    channels = 2 * 4 * shape.width + size * products
    if shape.model_type == "gpt2" and "gelu" not in load.patches:
        channels += (4 if load.half else 3) * 4 * shape.inner
    if shape.dropout:
        channels += 2 * (size + 1) * shape.width
    return load.tokens * channels


def of_the_ends(shape: Shape, load: Load) -> float:
    """Embedding and last norm: three float32 rows a token, and one of the products' precision."""
    return load.tokens * shape.width * (3 * 4 + (2 if load.half else 4))


def loss_bytes(shape: Shape, load: Load, hardware: Hardware) -> float:
    """Head and cross-entropy at their worst.

    Without the fused head: the logits, as float32, their log-softmax and two gradients, for every
    token. With it, as many for some rows (on a GPU logits and gradient, in the precision of the
    products), and the gradient of the head's weight.
    """
    if not load.head_loss:
        return 0.0
    a_logit = (2 if load.half else 0) + 4 * 4
    if "fused_head_loss" not in load.patches:
        return load.tokens * shape.vocabulary * a_logit
    cpu = hardware.accelerator.name in CPUS
    held = max(FUSED_ROWS, FUSED_LOGITS["cpu" if cpu else "gpu"] // shape.vocabulary)
    if not cpu:
        a_logit = 2 * (2 if load.half else 4)
    return min(load.tokens, held) * shape.vocabulary * a_logit + 4 * shape.embedding


def runtime(hardware: Hardware) -> float:
    """Of a process before its model. On a CPU measured, with torch, transformers and datasets
    imported; on a GPU assumed, its context among it."""
    return (560 if hardware.accelerator.name in CPUS else 620) * MIB
