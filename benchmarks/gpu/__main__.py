"""All GPU measurements in one command, without a network, on one H100 or H200.

    python -m benchmarks.gpu --out DIR [--dry-run] [--minutes 8.5] [--only SECTION ...]

Sections in order, each saved to DIR/<section>.json as it ends, and all of them to DIR/summary.json:

- `correctness`: every Triton kernel, forward and every gradient, against float64 truth;
- `ablation`: 124M at context 1,024, each patch and all of them, eager and compiled, beside stock;
- `end_to_end_124m`, `end_to_end_1558m`: `transformers.Trainer` on packed random tokens, tokens/s
  and model FLOPs utilisation by both common formulas;
- `profile`: the top kernels of a patched step, and what is left between it and the roofline;
- `kernels`: each operation beside torch's own, torch.compile's and, where installed, Liger's.

Each section has a process of its own, so that a fault of the GPU in one spoils no other, and is
ended when the minutes are over. One that fails is recorded, the next one runs, and the exit status
is 1.
The ablation compares gradients once more before it times a patch.
`--dry-run` does the same at tiny sizes on a CPU, kernels through Triton's interpreter.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu.setting import Setting, environment

TO_END_S = 30  # no measurement begins later than this before the section has to end
OUT_OF_TIME = {"status": "skipped", "reason": "out of time"}


def main() -> int:
    """Run the sections; the exit status says whether all of them went well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, on a CPU")
    parser.add_argument("--minutes", type=float, default=8.5, help="all ends by then")
    parser.add_argument("--only", nargs="*", choices=list(SECTIONS), help="these sections alone")
    parser.add_argument("--in-process", action="store_true", help="all sections in this process")
    options = parser.parse_args()
    if options.dry_run:
        # Before any kernel is imported: it decides what a kernel is.
        os.environ["TRITON_INTERPRET"] = "1"
    options.out.mkdir(parents=True, exist_ok=True)
    setting = Setting.make(options.dry_run, time.monotonic() + 60 * options.minutes)
    summary: dict[str, Any] = {"environment": environment(setting), "sections": {}}
    for name in options.only or SECTIONS:
        record = (
            run_section(name, setting) if options.in_process else isolated(name, options, setting)
        )
        summary["sections"][name] = record
        write(options.out / f"{name}.json", record)
        write(options.out / "summary.json", summary)
    failed = [name for name, record in summary["sections"].items() if record["status"] != "ok"]
    print(f"written: {options.out}/summary.json", f"not ok: {', '.join(failed) or 'nothing'}")
    return 1 if failed else 0


def isolated(name: str, options: argparse.Namespace, setting: Setting) -> dict[str, Any]:
    """The record of a section that runs in a process of its own and saves it itself."""
    left = setting.left()
    if left <= 0:
        return OUT_OF_TIME
    saved = options.out / f"{name}.json"
    saved.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(options.out), "--in-process"]
    command += ["--only", name, "--minutes", str((left - TO_END_S) / 60)]
    command += ["--dry-run"] if options.dry_run else []
    try:
        status = subprocess.run(command, timeout=max(left, 1), check=False).returncode
    except subprocess.TimeoutExpired:
        return {"status": "failed", "error": f"ended after {left:.0f} s: out of time"}
    if not saved.exists():
        return {"status": "failed", "error": f"ended with status {status} and no record"}
    record: dict[str, Any] = json.loads(saved.read_text(encoding="utf-8"))
    return record


def run_section(name: str, setting: Setting) -> dict[str, Any]:
    """Status, seconds and result of one section; an error is recorded whole."""
    print(f"== {name}", flush=True)
    began = time.monotonic()
    if setting.left() <= 0:
        print("skipped: out of time")
        return OUT_OF_TIME
    record: dict[str, Any] = {"status": "ok"}
    try:
        record["result"] = SECTIONS[name](setting)
    except Exception as error:  # the other sections' figures are worth having all the same
        record |= {"status": "failed", "error": repr(error), "traceback": traceback.format_exc()}
        print(record["traceback"], flush=True)
    if failures := (record.get("result") or {}).get("failures"):
        record |= {"status": "failed", "error": f"{len(failures)} failures: {failures}"}
        print(record["error"], flush=True)
    record["seconds"] = round(time.monotonic() - began, 1)
    print(f"-- {name}: {record['status']}, {record['seconds']} s", flush=True)
    return record


def write(path: Path, record: dict[str, Any]) -> None:
    """JSON under a temporary name first, so that a kill leaves the last whole file."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def correctness(setting: Setting) -> dict[str, Any]:
    from benchmarks.gpu.correctness import check_all

    return check_all(setting)


def ablation(setting: Setting) -> dict[str, Any]:
    from benchmarks.gpu.training import ablate

    return ablate(setting)


def end_to_end_124m(setting: Setting) -> dict[str, Any]:
    from benchmarks.gpu.training import through_trainer

    return through_trainer(setting, setting.small_model, setting.small_batches)


def end_to_end_1558m(setting: Setting) -> dict[str, Any]:
    from benchmarks.gpu.training import through_trainer

    return through_trainer(setting, setting.large_model, setting.large_batches)


def profile(setting: Setting) -> dict[str, Any]:
    from benchmarks.gpu.profiling import top_kernels

    return top_kernels(setting)


def kernels(setting: Setting) -> dict[str, Any]:
    from benchmarks.gpu.operations import time_all

    return time_all(setting)


SECTIONS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "correctness": correctness,
    "ablation": ablation,
    "end_to_end_124m": end_to_end_124m,
    "end_to_end_1558m": end_to_end_1558m,
    "profile": profile,
    "kernels": kernels,
}

if __name__ == "__main__":
    sys.exit(main())
