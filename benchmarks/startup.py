"""Seconds that the commands which train nothing take, as whole processes, against bare Python.

    python benchmarks/startup.py [--recipe quickstart] [--repeats 7] [--output FILE]

The bound is 0.7 s on two cores, and none of them may import torch: what each process imported is
read from `python -X importtime`. The commands take turns, so that a slow moment hits all of them.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import ForeignTime, write_result

BOUND_SECONDS = 0.7
HEAVY = ("torch", "transformers", "trl", "peft", "datasets")
BARE = "python -c pass"


def commands(recipe: str) -> dict[str, list[str]]:
    """What is timed: a name, and Python's arguments."""
    told = {
        "llmkit --help": ["--help"],
        "llmkit recipes": ["recipes"],
        f"llmkit check {recipe}": ["check", recipe],
        f"llmkit show {recipe}": ["show", recipe],
    }
    return {BARE: ["-c", "pass"]} | {name: ["-m", "llmkit", *words] for name, words in told.items()}


def imported(arguments: list[str]) -> list[str]:
    """The heavy packages that a process with these arguments imports."""
    done = _process(["-X", "importtime", *arguments])
    names = set(re.findall(r"\|\s+(\w+)$", done.stderr, flags=re.MULTILINE))
    return [name for name in HEAVY if name in names]


def seconds(arguments: list[str]) -> float:
    """Wall time of one whole process."""
    started = time.perf_counter()
    _process(arguments)
    return time.perf_counter() - started


def _process(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"python {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--recipe", default="quickstart", help="name or path of a recipe")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/startup.json")
    chosen = parser.parse_args()
    timed = commands(chosen.recipe)
    heavy = {name: found for name, words in timed.items() if (found := imported(words))}
    if heavy:
        raise SystemExit(f"not timed, for these import what they must not: {heavy}")
    watch = ForeignTime()
    taken: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(chosen.repeats):
        for name, words in timed.items():
            taken[name].append(seconds(words))
    median = {name: round(statistics.median(values), 3) for name, values in taken.items()}
    for name, value in median.items():
        verdict = "" if value < BOUND_SECONDS else f"  over the bound of {BOUND_SECONDS} s"
        print(f"{name:32} {value:6.3f} s{verdict}")
    result = {"repeats": chosen.repeats, "bound_seconds": BOUND_SECONDS, "median_seconds": median}
    write_result("startup", result, watch.share(), chosen.output)


if __name__ == "__main__":
    main()
