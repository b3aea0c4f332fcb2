"""Tokens a second that the training reader feeds from one process, beside nanoGPT's way.

    python benchmarks/reader.py [--tokens 40000000] [--batch 32] [--lengths 128 1024]

nanoGPT's `get_batch` (https://github.com/karpathy/nanoGPT/blob/master/train.py) opens a memmap anew
for every batch, slices it once a row, makes int64 tensors and stacks them. Before anything is
timed, every variant's first rows are compared with that. The bound is 30 million tokens/s.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import ForeignTime, write_result

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from llmkit.data.tokens.mixture import MixedWindows, Part  # noqa: E402
from llmkit.data.tokens.shard_files import ShardWriter, write_json  # noqa: E402
from llmkit.data.tokens.shards import TokenWindows  # noqa: E402

BOUND = 30e6  # tokens/s
EOS = 50_256
DOCUMENT_TOKENS = 700  # on average


def shards(folder: Path, tokens: int, seed: int) -> Path:
    """Documents of random ids and lengths, in shards of ten million tokens."""
    (folder / "scratch").mkdir(parents=True)
    chance, splits = np.random.default_rng(seed), {}
    for split, count in (("train", tokens), ("validation", 10_000)):
        writer = ShardWriter(
            folder, folder / "scratch", split, vocab_size=50_257, eos=EOS, shard_tokens=10_000_000
        )
        while count > 0:
            lengths = chance.integers(1, 2 * DOCUMENT_TOKENS, size=2000)
            ids = chance.integers(0, EOS, size=int(lengths.sum()))
            writer.add_flat(ids, lengths, lengths * 4)
            count -= len(ids) + len(lengths)
        splits[split] = writer.finish()
    head = {"dtype": "uint16", "vocab_size": 50_257, "eos_token_id": EOS, "context_length": 1024}
    write_json(folder / "index.json", {**head, "splits": splits})
    return folder


def by_rows(windows: TokenWindows, indices: range) -> dict[str, torch.Tensor]:
    """nanoGPT's way with the same order: a slice of the memmap and a tensor a row, then stacked."""
    length = windows.context_length
    files = [np.memmap(windows.stream.folder / s.file, "<u2", "r") for s in windows.stream._shards]
    ends = np.cumsum([len(file) for file in files])
    rows = []
    for place in windows.places(np.asarray(indices)).tolist():
        start = place * length
        number = int(np.searchsorted(ends, start, side="right"))
        at = start - (int(ends[number]) - len(files[number]))
        row = files[number][at : at + length]
        if len(row) < length:  # nanoGPT has one file alone, and never crosses
            row = np.concatenate([row, files[number + 1][: length - len(row)]])
        rows.append(torch.from_numpy(row.astype(np.int64)))
    return {"input_ids": torch.stack(rows)}


def stacked(windows: Any, indices: range) -> dict[str, torch.Tensor]:
    """As PyTorch's loader asks and Hugging Face's collator stacks."""
    rows = windows.__getitems__(list(indices))
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def variants(
    folder: Path, other: Path, length: int, samples: int
) -> dict[str, Callable[[range], dict[str, torch.Tensor]]]:
    plain = TokenWindows(folder, "train", length, num_samples=samples)
    masked = TokenWindows(folder, "train", length, num_samples=samples, document_masking=True)
    parts = [Part(folder=folder, weight=0.7), Part(folder=other, weight=0.3)]
    mixed = MixedWindows(parts, length, num_samples=samples)
    return {
        "row by row, as nanoGPT": lambda at: by_rows(plain, at),
        "batch": plain.batch,
        "batch, document masking": masked.batch,
        "batch of two sets by weight": mixed.batch,
        "rows, then stacked by a collator": lambda at: stacked(plain, at),
    }


def checked(name: str, batch: dict[str, torch.Tensor], due: torch.Tensor) -> None:
    """Stop where a variant reads other tokens."""
    if "two sets" not in name and not torch.equal(batch["input_ids"], due):
        raise SystemExit(f"{name} reads other tokens, so nothing is timed")


def measure(
    folder: Path, other: Path, length: int, batch: int, tokens: int
) -> list[dict[str, Any]]:
    """A row a variant; each reads `tokens` tokens, after a look at its first batch."""
    batches = max(1, tokens // (batch * length))
    timed = variants(folder, other, length, (batches + 1) * batch)
    due = timed["row by row, as nanoGPT"](range(batch))["input_ids"]
    rows: list[dict[str, Any]] = []
    for name, read in timed.items():
        checked(name, read(range(batch)), due)
        started = time.perf_counter()
        for number in range(1, batches + 1):
            read(range(number * batch, (number + 1) * batch))
        rate = batches * batch * length / (time.perf_counter() - started)
        rows.append({"variant": name, "length": length, "tokens_per_second": round(rate)})
        first = rows[0]["tokens_per_second"]
        rows[-1]["against_row_by_row"] = round(rate / first, 2)
        print(f"{length:5} {name:34} {rate / 1e6:8.1f} million tokens/s  x{rate / first:.2f}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tokens", type=int, default=40_000_000, help="in the shards, and read")
    parser.add_argument("--batch", type=int, default=32, help="windows")
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 1024])
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/reader.json")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = shards(Path(temporary) / "one", chosen.tokens, 0)
        other = shards(Path(temporary) / "two", chosen.tokens // 4, 1)
        watch, rows = ForeignTime(), []
        for length in chosen.lengths:
            rows += measure(folder, other, length, chosen.batch, chosen.tokens)
        foreign = watch.share()
    result = {"batch": chosen.batch, "bound_tokens_per_second": BOUND, "rows": rows}
    write_result("reader", result, foreign, chosen.output)


if __name__ == "__main__":
    main()
