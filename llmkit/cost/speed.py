"""How fast a model trains on hardware that nobody has tried it on.

The time of a token is taken as that of its products at a share 1/a of the peak, and that of the
bytes which every channel of every layer costs besides (norms, activations, residuals), one after
the other:

    1 / MFU = a + b * x,     x = L C / FLOPs * peak FLOP/s / (bytes/s of the memory)

with llm.c's FLOPs a token. Wider models have more products a channel (x falls with 1 / C), and a
GPU of more FLOP/s for each byte/s waits longer for its memory. a and b (bytes a channel and layer)
are fitted by least squares to the runs that llm.c published. Fitted on any three of them, the model
predicts the fourth (docs/plan.md has the figures, tests/cost/test_speed.py holds them).

MFU counts the model's own FLOPs: a forward pass that is made again, to recompute activations, is in
none of them and lowers it. No published run recomputes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from llmkit.cost.flops import RECOMPUTED, flops_per_token, mfu
from llmkit.cost.hardware import ACCELERATORS, CPU, PLAIN_CPU, Hardware
from llmkit.cost.shapes import Shape, gpt2

LLM_C = "https://github.com/karpathy/llm.c/blob/master/scripts/run_gpt2_{}.sh"
# Of the peak in the table, measured with small models (docs/plan.md, The CPU).
CPU_MFU = {CPU: 0.15, PLAIN_CPU: 0.5}
AS_GIVEN, AT_MFU = "as given", "at the MFU given"
# What no prediction goes beyond: FlashAttention-2's best, 225 TFLOP/s on an A100
# (https://github.com/Dao-AILab/flash-attention/blob/main/README.md).
BEST = 0.72


@dataclass(frozen=True, kw_only=True)
class Published:
    """A run of llm.c as the head of its script tells it."""

    name: str
    layers: int
    width: int
    heads: int
    gpu: str
    gpus: int
    steps: int
    tokens_per_step: int
    seconds_per_step: float
    dollars_an_hour: float
    hours: float  # as published, as are the dollars
    dollars: float

    @property
    def source(self) -> str:
        return LLM_C.format(self.name)

    @property
    def hardware(self) -> Hardware:
        return Hardware(ACCELERATORS[self.gpu], self.gpus)

    @property
    def tokens_per_second(self) -> float:
        return self.tokens_per_step / self.seconds_per_step

    @property
    def shape(self) -> Shape:
        """GPT-2's; the rows that llm.c pads the vocabulary with are not counted."""
        sizes = {"n_layer": self.layers, "n_embd": self.width, "n_head": self.heads}
        return gpt2({"vocab_size": 50257, "n_positions": 1024, **sizes})

    @property
    def mfu(self) -> float:
        flops = flops_per_token(self.shape, 1024)
        return mfu(flops, self.tokens_per_second, self.hardware.flops)


PUBLISHED = (
    Published(
        name="124M",
        layers=12,
        width=768,
        heads=12,
        gpu="a100",
        gpus=8,
        steps=18_865,
        tokens_per_step=2**19,
        seconds_per_step=0.3,
        dollars_an_hour=14,
        hours=94 / 60,
        dollars=20,
    ),
    Published(
        name="350M",
        layers=24,
        width=1024,
        heads=16,
        gpu="a100",
        gpus=8,
        steps=60_000,
        tokens_per_step=2**19,
        seconds_per_step=0.82,
        dollars_an_hour=14,
        hours=13.7,
        dollars=200,
    ),
    Published(
        name="774M",
        layers=36,
        width=1280,
        heads=20,
        gpu="a100",
        gpus=8,
        steps=286_102,
        tokens_per_step=2**19,
        seconds_per_step=1.7,
        dollars_an_hour=14,
        hours=5.6 * 24,
        dollars=2000,
    ),
    Published(
        name="1558M",
        layers=48,
        width=1600,
        heads=25,
        gpu="h100",
        gpus=8,
        steps=32_000,
        tokens_per_step=2**20,
        seconds_per_step=2.8,
        dollars_an_hour=28,
        hours=24,
        dollars=672,
    ),
)


@dataclass(frozen=True)
class Speed:
    """Tokens/s of all devices together, the MFU (llm.c's formula) and where they are from."""

    tokens_per_second: float
    mfu: float
    why: str

    @property
    def given(self) -> bool:
        return self.why in (AS_GIVEN, AT_MFU)

    def at(self, tokens_per_second: float) -> Speed:
        """The same devices and model, at other tokens/s."""
        return Speed(
            tokens_per_second, self.mfu * tokens_per_second / self.tokens_per_second, self.why
        )


def slowness(shape: Shape, context: int, hardware: Hardware) -> float:
    """x of the model: channels of all layers that pass through memory for a unit of products."""
    device = hardware.accelerator
    channels = shape.layers * shape.width / flops_per_token(shape, context)
    return channels * device.flops / device.bandwidth


def fit(runs: Sequence[Published]) -> tuple[float, float]:
    """(a, b) by least squares of 1 / MFU over the runs; b in bytes a channel and layer."""
    xs = [slowness(run.shape, 1024, run.hardware) for run in runs]
    ys = [1 / run.mfu for run in runs]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    b = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    b /= sum((x - mean_x) ** 2 for x in xs)
    return mean_y - b * mean_x, b


@cache
def fitted() -> tuple[float, float]:
    return fit(PUBLISHED)


def predicted_mfu(
    shape: Shape, context: int, hardware: Hardware, ab: tuple[float, float] | None = None
) -> float:
    """By the model that is fitted to all published runs, or by another (a, b)."""
    if hardware.accelerator.name in CPU_MFU:
        return CPU_MFU[hardware.accelerator.name]
    a, b = ab or fitted()
    return min(BEST, 1 / (a + b * slowness(shape, context, hardware)))


def published_for(shape: Shape, context: int, hardware: Hardware) -> Published | None:
    """The published run of this very model on this very hardware, if there is one."""
    for run in PUBLISHED:
        same = (run.layers, run.width, run.heads) == (shape.layers, shape.width, shape.heads)
        if same and shape.model_type == "gpt2" and context == 1024 and run.hardware == hardware:
            return run
    return None


def speed_of(
    shape: Shape,
    context: int,
    hardware: Hardware,
    given_mfu: float | None = None,
    given_rate: float | None = None,
    recompute: bool = False,
) -> Speed:
    """What is given, else what was published, else what the model predicts.

    Args:
        recompute: whether activations are recomputed. What is given was reached with it.
    """
    flops = flops_per_token(shape, context)
    if given_rate is not None:
        return Speed(given_rate, mfu(flops, given_rate, hardware.flops), AS_GIVEN)
    if given_mfu is not None:
        return Speed(given_mfu * hardware.flops / flops, given_mfu, AT_MFU)
    slower = RECOMPUTED if recompute else 1
    run = published_for(shape, context, hardware)
    if run is not None:
        rate = run.tokens_per_second / slower
        return Speed(rate, mfu(flops, rate, hardware.flops), f"published: {run.source}")
    share = predicted_mfu(shape, context, hardware) / slower
    why = "as measured on such a CPU" if hardware.accelerator.name in CPU_MFU else "predicted"
    return Speed(share * hardware.flops / flops, share, why)
