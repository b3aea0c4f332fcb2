"""`llmkit bench patches`, recorded: the measurement behind `AUTOMATIC` in `llmkit/patch.py`.

python benchmarks/patches.py [--size small] [--batch 16] [--context 256] [--steps 5]
                             [--dtype float32] [--no-compile] [--output FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from machine import ForeignTime, write_result

from llmkit.bench.patches import bench_patches


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size")
    for name in ("batch", "context"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--dtype")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/patches.json")
    chosen = vars(parser.parse_args())
    output, compiled = chosen.pop("output"), not chosen.pop("no_compile")
    watch = ForeignTime()
    rows = bench_patches(**chosen, compiled=compiled)
    write_result("patches", {**chosen, "rows": rows}, watch.share(), output)


if __name__ == "__main__":
    main()
