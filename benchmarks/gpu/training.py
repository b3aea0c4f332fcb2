"""The ablation of the patches, and whole trainings through `transformers.Trainer`."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from benchmarks.gpu.setting import Setting, peak_tflops
from llmkit.bench.patches import COMPILED, PATCH_SETS, line
from llmkit.bench.training_step import SIZES, Workload, make_model, measure
from llmkit.patch import patched

SETS = PATCH_SETS | {
    # what Inductor cannot do by itself; the rest it fuses on its own
    "attention + fused_head_loss": ["attention", "fused_head_loss"],
}
LLM_C_TOKENS_PER_SECOND = {"124m": 468_000, "1558m": 46_800}  # per H100, research on llm.c's runs


def ablate(setting: Setting) -> dict[str, Any]:
    """Each patch and all of them beside stock eager, then stock and all of them compiled."""
    workload = Workload(
        size=setting.small_model, batch=setting.ablation_batch, context=setting.context,
        steps=setting.steps, dtype="bfloat16", device=setting.device,
    )  # fmt: skip
    compiled = [] if setting.dry else [(name, True) for name in COMPILED]
    rows: list[dict[str, Any]] = []
    for name, compile_ in [(name, False) for name in PATCH_SETS] + compiled:
        row: dict[str, Any] = {"variant": name + (", compiled" if compile_ else "")}
        if setting.left() <= 0:
            row["error"] = "not measured: out of time"
        else:
            row |= attempt(lambda: measure(workload, PATCH_SETS[name], compile_))  # noqa: B023
        rows.append(row)
        print(line(row, rows[0]), flush=True)
        setting.forget()
    return {"workload": vars(workload), "rows": rows, "failures": _failures(rows)}


def through_trainer(
    setting: Setting, size: str, batches: tuple[tuple[int, str, bool], ...]
) -> dict[str, Any]:
    """Tokens/s and both MFUs of each (rows a step, patch set, compiled), as a user trains."""
    rows: list[dict[str, Any]] = []
    for batch, name, compiled in batches:
        row: dict[str, Any] = {"batch": batch, "patches": name, "compiled": compiled}
        if setting.left() <= 0:
            row["error"] = "not measured: out of time"
        else:
            row |= attempt(lambda: train(setting, size, batch, SETS[name], compiled))  # noqa: B023
        rows.append(row)
        print(row, flush=True)
        setting.forget()
    target = None if setting.dry else LLM_C_TOKENS_PER_SECOND[size]
    return {
        "model": size, "context": setting.context, "llm_c_tokens_per_second": target,
        "rows": rows, "failures": _failures(rows),
    }  # fmt: skip


def attempt(measurement: Any) -> dict[str, Any]:
    """Its row, or a row that holds its error: one variant must not cost the others."""
    try:
        row: dict[str, Any] = measurement()
    except Exception as error:
        row = {"error": f"{type(error).__name__}: {error}"[:2000]}
    return row


def _failures(rows: list[dict[str, Any]]) -> list[str]:
    """Errors that are neither a lack of time nor of memory: those are findings."""
    excused = ("not measured", "OutOfMemoryError")
    errors = [row["error"] for row in rows if "error" in row]
    return [error for error in errors if not error.startswith(excused)]


class RandomTokens(Dataset):
    """Packed rows of random tokens, as many as the training takes: nothing is padded."""

    def __init__(self, num_rows: int, context: int, vocab_size: int) -> None:
        torch.manual_seed(1)
        self.rows = torch.randint(vocab_size, (num_rows, context))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


class Stopwatch(TrainerCallback):
    """Seconds from the end of step `first` to the end of the training; waits only at those two."""

    def __init__(self, setting: Setting, first: int) -> None:
        self.now, self.first = setting.clock(), first
        self.began = self.ended = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.first:
            self.began = self.now()
        if state.global_step == state.max_steps:
            self.ended = self.now()


def train(
    setting: Setting, size: str, batch: int, patches: list[str], compiled: bool
) -> dict[str, Any]:
    """One training of a few steps through the Trainer, bfloat16 autocast, float32 weights."""
    layers, width, heads, vocab_size = SIZES[size]
    workload = Workload(
        size=size, batch=batch, context=setting.context, steps=setting.steps, dtype="bfloat16",
        device=setting.device,
    )  # fmt: skip
    warm_up = 1 if setting.dry else 5
    steps = warm_up + setting.steps
    began = time.perf_counter()
    model = make_model(workload)
    watch = Stopwatch(setting, warm_up)
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder, max_steps=steps, per_device_train_batch_size=batch, bf16=True,
            use_cpu=setting.dry, torch_compile=compiled, learning_rate=1e-4, max_grad_norm=1.0,
            save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True,
            logging_nan_inf_filter=False, remove_unused_columns=False,
            dataloader_pin_memory=not setting.dry, seed=0,
        )  # fmt: skip
        data = RandomTokens(batch * steps, setting.context, vocab_size)
        trainer = Trainer(model=model, args=args, train_dataset=data, callbacks=[watch])
        with patched(model, patches):
            result = trainer.train()
    seconds = (watch.ended - watch.began) / setting.steps
    tokens_per_second = batch * setting.context / seconds
    row = {
        "tokens_per_second": round(tokens_per_second), "step_ms": round(1e3 * seconds, 2),
        "train_loss": result.training_loss, "seconds_in_all": round(time.perf_counter() - began, 1),
        "parameters": model.num_parameters(),
    }  # fmt: skip
    if setting.device == "cuda":
        row["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return row | utilisation(model, layers, width, setting, tokens_per_second)


def utilisation(
    model: Any, layers: int, width: int, setting: Setting, tokens_per_second: float
) -> dict[str, float]:
    """MFU by llm.c's formula (6 N + 6 L C T a token) and by nanoGPT's (6 (N - wpe) + 12 L C T)."""
    peak = peak_tflops(setting.device)
    if peak is None:
        return {}
    parameters, positions = model.num_parameters(), setting.context * width
    attention = layers * width * setting.context
    per_token = {
        "mfu_llm_c": 6 * parameters + 6 * attention,
        "mfu_nanogpt": 6 * (parameters - positions) + 12 * attention,
    }
    scale = tokens_per_second / (peak * 1e12)
    return {name: round(flops * scale, 4) for name, flops in per_token.items()}
