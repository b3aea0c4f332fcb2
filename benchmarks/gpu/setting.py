"""What is measured at which sizes, on the GPU and in the dry run; where; and the time left."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

# Dense bfloat16 TFLOP/s by NVIDIA's data sheets; H100 and H200 are the SXM parts, as in llm.c's
# mfu.h (https://github.com/karpathy/llm.c/blob/f1e2ace/llmc/mfu.h).
PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L4": 121.0, "4090": 165.0, "T4": 65.0}
LIBRARIES = ("torch", "triton", "transformers", "accelerate", "liger-kernel")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Sizes are names in `llmkit.bench.training_step.SIZES`.

    Attributes:
        small_batches, large_batches: (rows a step, patch set, compiled), most wanted first.
        deadline: of `time.monotonic`; no measurement begins after it.
    """

    device: str
    dry: bool
    deadline: float
    small_model: str
    large_model: str
    context: int
    ablation_batch: int
    small_batches: tuple[tuple[int, str, bool], ...]
    large_batches: tuple[tuple[int, str, bool], ...]
    steps: int
    operations: dict[str, tuple[int, ...]]  # name -> shape at which it is timed

    @classmethod
    def make(cls, dry: bool, deadline: float) -> Setting:
        """GPT-2's sizes on a CUDA device; tiny ones in the dry run. Refuses a lack of both."""
        import torch

        if dry:
            return cls(
                device="cpu", dry=True, deadline=deadline, small_model="tiny", large_model="tiny",
                context=16, ablation_batch=2, steps=2,
                small_batches=((2, "all patches", False), (2, "stock", False)),
                large_batches=((2, "all patches", False),),
                operations={"gelu": (4, 33), "layer_norm": (4, 33), "fused_head_loss": (9, 8, 70)},
            )  # fmt: skip
        if not torch.cuda.is_available():
            raise SystemExit("no CUDA device here; --dry-run does the same at tiny sizes on a CPU")
        return cls(
            device="cuda", dry=False, deadline=deadline, small_model="124m", large_model="1558m",
            context=1024, ablation_batch=32, steps=10,
            small_batches=(
                (64, "all patches", False),
                (64, "attention + fused_head_loss", True),
                (32, "all patches", False),
                (32, "stock", False),
            ),
            large_batches=(
                (8, "all patches", False),
                (4, "stock", False),
            ),
            operations={
                "gelu": (32 * 1024, 4 * 768),
                "layer_norm": (32 * 1024, 768),
                "fused_head_loss": (32 * 1024, 768, 50_257),
            },
        )  # fmt: skip

    def left(self) -> float:
        """Seconds until nothing begins any more."""
        return self.deadline - time.monotonic()

    def clock(self) -> Callable[[], float]:
        """A clock whose reading waits for the device."""
        import torch

        def now() -> float:
            if self.device == "cuda":
                torch.cuda.synchronize()
            return time.perf_counter()

        return now

    def forget(self) -> None:
        """Free what the last measurement held, and start peak memory anew."""
        import gc

        import torch

        torch._dynamo.reset()
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def peak_tflops(device: str) -> float | None:
    """Of this GPU by its name; None for one that is not in the table."""
    import torch

    name = torch.cuda.get_device_name(0) if device == "cuda" else ""
    return next((peak for key, peak in PEAK_TFLOPS.items() if key in name), None)


def environment(setting: Setting) -> dict[str, Any]:
    """Device, driver's view of it, Python and library versions."""
    import torch

    record: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "device": platform.processor() or platform.machine(),
        "dry_run": setting.dry,
        "versions": {name: _version(name) for name in LIBRARIES},
    }
    if setting.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        record |= {
            "device": properties.name,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count,
            "cuda": torch.version.cuda,
            "peak_tflops": peak_tflops("cuda"),
        }
    return record


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
