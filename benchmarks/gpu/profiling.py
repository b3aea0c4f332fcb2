"""The top kernels of a patched training step, and what is left between it and the roofline."""

from __future__ import annotations

from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.setting import Setting, peak_tflops
from llmkit.bench.patches import PATCH_SETS
from llmkit.bench.training_step import SIZES, Workload, make_model, timed, training_step
from llmkit.patch import patched

STEPS, TOP = 3, 25


def top_kernels(setting: Setting) -> dict[str, Any]:
    """Milliseconds a step of the longest kernels, of all kernels, and of the step as a whole."""
    workload = Workload(
        size=setting.small_model, batch=setting.ablation_batch, context=setting.context,
        steps=setting.steps, dtype="bfloat16", device=setting.device,
    )  # fmt: skip
    model, now = make_model(workload), setting.clock()
    cuda = setting.device == "cuda"
    with patched(model, PATCH_SETS["all patches"]):
        step = training_step(model, workload, compiled=False)
        seconds, _ = timed(step, workload)
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda else [])
        with profile(activities=activities) as profiler:
            for _ in range(STEPS):
                step()
            now()
    own = "self_device_time_total" if cuda else "self_cpu_time_total"
    # On a GPU the operators that launch kernels appear too, with no device time of their own.
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, own))
    rows = [
        {
            "name": e.key[:120],
            "calls": e.count / STEPS,
            "ms": round(getattr(e, own) / 1e3 / STEPS, 4),
        }
        for e in events[:TOP]
    ]
    for row in rows[:12]:
        print(f"{row['ms']:9.3f} ms {row['calls']:6.0f}  {row['name'][:90]}", flush=True)
    busy = sum(getattr(event, own) for event in events) / 1e3 / STEPS
    return {
        "workload": vars(workload), "step_ms": 1e3 * seconds, "kernels_ms": busy, "rows": rows,
        **roofline(model, workload, 1e3 * seconds),
    }  # fmt: skip


def roofline(model: Any, workload: Workload, step_ms: float) -> dict[str, float]:
    """Milliseconds that the products alone would take at the peak, and what is left of the step."""
    peak = peak_tflops(workload.device)
    if peak is None:
        return {}
    layers, width, *_ = SIZES[workload.size]
    per_token = 6 * model.num_parameters() + 6 * layers * width * workload.context
    ideal = 1e3 * per_token * workload.batch * workload.context / (peak * 1e12)
    return {"products_at_peak_ms": ideal, "above_the_roofline_ms": step_ms - ideal}
