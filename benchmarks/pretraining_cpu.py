"""Tokens per second of pretraining on a CPU: llmkit's Trainer beside stock ones and a plain loop.

    python benchmarks/pretraining_cpu.py [--variants NAME ...] [--steps 5] [--output FILE]

The model is a GPT-2 of 6 layers x 384 with context 256 and vocabulary 8,192, on 16 rows a step.
`Trainer` is `transformers.Trainer` as a user runs it; `loop` is a plain PyTorch loop over a GPT-2
as people write it themselves (`peer_gpt.py`); `llmkit` is `transformers.Trainer` with what the
pretrain stage adds: the patches that `auto` takes, the precision that suits the CPU, and `mallopt`.
`litgpt` is that library's training of a model of the same size (`peer_litgpt.py`), where it is
installed: `pip install --target FOLDER --no-deps litgpt lightning pytorch-lightning
lightning-utilities torchmetrics jsonargparse`, and FOLDER in PYTHONPATH. Others are measured as
they come and again with `mallopt`. All start from the same weights and see the same tokens; a
variant whose first loss is not stock's (litgpt's: that of a guess) is not timed. The variants take
turns step by step, one process each, so that a slow moment hits all of them. A step is forward,
backward, clipping and AdamW; the first one, compilation included, stands apart.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import multiprocessing
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from machine import ForeignTime, write_result

LOSS_MARGIN = 0.01  # nats; bfloat16 differs in the third decimal
GUESS_MARGIN = 0.25  # about ln(vocabulary), of other first weights
FIRST_LOSS_RULE = "its first loss is {:.4f}, and should be {:.4f}: not timed"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How one of them trains. `dtype` None: as llmkit chooses for this machine."""

    loop: str  # trainer, peer, litgpt or llmkit
    dtype: str | None = "float32"
    compiled: bool = False
    mallopt: bool = False


VARIANTS = {
    "Trainer float32": Variant(loop="trainer"),
    "Trainer float32 + mallopt": Variant(loop="trainer", mallopt=True),
    "Trainer float32 + compile": Variant(loop="trainer", compiled=True),
    "Trainer float32 + compile + mallopt": Variant(loop="trainer", compiled=True, mallopt=True),
    "Trainer bfloat16": Variant(loop="trainer", dtype="bfloat16"),
    "Trainer bfloat16 + mallopt": Variant(loop="trainer", dtype="bfloat16", mallopt=True),
    "Trainer bfloat16 + compile": Variant(loop="trainer", dtype="bfloat16", compiled=True),
    "loop float32 + compile": Variant(loop="peer", compiled=True),
    "loop float32 + compile + mallopt": Variant(loop="peer", compiled=True, mallopt=True),
    "loop bfloat16 + compile": Variant(loop="peer", dtype="bfloat16", compiled=True),
    "litgpt bfloat16 + compile": Variant(loop="litgpt", dtype="bfloat16", compiled=True),
    "litgpt bfloat16 + compile + mallopt": Variant(
        loop="litgpt", dtype="bfloat16", compiled=True, mallopt=True
    ),
    "llmkit": Variant(loop="llmkit", dtype=None, mallopt=True),
    "llmkit + compile": Variant(loop="llmkit", dtype=None, compiled=True, mallopt=True),
}


@dataclass(frozen=True)
class Shape:
    """The model and its batch."""

    layers: int
    width: int
    heads: int
    vocab_size: int
    context: int
    batch: int
    threads: int
    steps: int


def worker(pipe: Connection, shape: Shape, variant: Variant) -> None:
    """Take a step for each word that comes through `pipe`; answer with (seconds, loss)."""
    import torch

    from llmkit.device import tune_allocator

    if variant.mallopt and not tune_allocator():
        raise SystemExit("this C library has no mallopt")
    torch.set_num_threads(shape.threads)
    torch.manual_seed(0)
    model = make_model(shape)
    rows = torch.randint(shape.vocab_size, (shape.batch * (1 + shape.steps), shape.context))
    pipe.send("ready")
    if variant.loop == "litgpt":
        import peer_litgpt

        sizes = (shape.layers, shape.width, shape.heads, shape.vocab_size, shape.context)
        peer_litgpt.take_steps(pipe, peer_litgpt.make_model(*sizes), rows, shape.batch)
    elif variant.loop == "peer":
        by_hand(pipe, shape, variant, model, rows)
    else:
        by_trainer(pipe, shape, variant, model, rows)


def make_model(shape: Shape) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=shape.vocab_size, n_positions=shape.context, n_embd=shape.width,
        n_layer=shape.layers, n_head=shape.heads, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, use_cache=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    model.loss_type = "ForCausalLM"  # else the Trainer counts a token too many in each row
    return model


def by_hand(pipe: Connection, shape: Shape, variant: Variant, model: Any, rows: Any) -> None:
    """A plain loop: autocast, clipping, fused AdamW."""
    import torch
    from peer_gpt import PeerGPT

    peer = PeerGPT(model)
    runs = torch.compile(peer) if variant.compiled else peer
    optimizer = torch.optim.AdamW(peer.parameters(), lr=1e-4, weight_decay=0.0, fused=True)
    low = variant.dtype == "bfloat16"
    for ids in rows.split(shape.batch):
        pipe.recv()
        began = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            loss = runs(ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        pipe.send((time.perf_counter() - began, loss.item()))


def by_trainer(pipe: Connection, shape: Shape, variant: Variant, model: Any, rows: Any) -> None:
    """`transformers.Trainer`, with what llmkit adds where that is the variant."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from llmkit.device import precision_arguments
    from llmkit.patch import patched

    class Turns(TrainerCallback):
        """Waits for its turn before a step."""

        began = 0.0

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            pipe.recv()
            self.began = time.perf_counter()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            pipe.send((time.perf_counter() - self.began, losses[-1]))

    losses: list[float] = []

    class Recording(Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            losses.append(loss.item())
            return loss

    ours = variant.loop == "llmkit"
    bf16 = precision_arguments()["bf16"] if variant.dtype is None else variant.dtype == "bfloat16"
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder, max_steps=1 + shape.steps, per_device_train_batch_size=shape.batch,
            bf16=bf16, use_cpu=True, torch_compile=variant.compiled, learning_rate=1e-4,
            lr_scheduler_type="constant", save_strategy="no", logging_strategy="no",
            report_to="none", disable_tqdm=True, dataloader_pin_memory=False, seed=0,
            train_sampling_strategy="sequential",
        )  # fmt: skip
        data = [{"input_ids": row, "labels": row} for row in rows]
        trainer = Recording(model=model, args=args, train_dataset=data, callbacks=[Turns()])
        with patched(model, "auto" if ours else "none"):
            trainer.train()


def measure(shape: Shape, names: list[str]) -> tuple[dict[str, list[tuple[float, float]]], float]:
    """(seconds, loss) of each step of each variant, the first one included; the foreign share."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name in names:
        pipes[name], theirs = context.Pipe()
        arguments = (theirs, shape, VARIANTS[name])
        processes.append(context.Process(target=worker, args=arguments, daemon=True))
        processes[-1].start()
        theirs.close()
        pipes[name].recv()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for number in range(1 + shape.steps):
        if number == 1:
            watch = ForeignTime([process.pid or 0 for process in processes])
        for name, pipe in pipes.items():
            pipe.send("go")
            taken[name].append(pipe.recv())
    foreign = watch.share()
    for process in processes:
        process.join()
    return taken, foreign


def table(taken: dict[str, list[tuple[float, float]]], shape: Shape) -> list[dict[str, Any]]:
    """A row a variant; `against_first` is over the first variant, higher is faster."""
    stock_loss = next(iter(taken.values()))[0][1]
    guess = math.log(shape.vocab_size)
    rows: list[dict[str, Any]] = []
    for name, steps in taken.items():
        (first, loss), *others = steps
        row: dict[str, Any] = {"variant": name, "first_loss": loss, "first_step_s": first}
        own = VARIANTS[name].loop == "litgpt"
        right, margin = (guess, GUESS_MARGIN) if own else (stock_loss, LOSS_MARGIN)
        if abs(loss - right) > margin:
            rows.append(row | {"error": FIRST_LOSS_RULE.format(loss, right)})
            continue
        seconds = statistics.median(step for step, _ in others)
        row |= {"step_ms": round(1e3 * seconds, 1)}
        row["tokens_per_second"] = round(shape.batch * shape.context / seconds)
        rows.append(row)
    base = rows[0]["step_ms"]
    for row in rows:
        if "step_ms" in row:
            row["against_first"] = round(base / row["step_ms"], 3)
    return rows


def installed(variant: Variant) -> bool:
    return variant.loop != "litgpt" or importlib.util.find_spec("litgpt") is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    sizes = {
        "layers": 6, "width": 384, "heads": 6, "vocab-size": 8192, "context": 256, "batch": 16,
        "threads": 2, "steps": 5,
    }  # fmt: skip
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    here = [name for name in VARIANTS if installed(VARIANTS[name])]
    parser.add_argument("--variants", nargs="+", default=here, choices=here)
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/")
    chosen = vars(parser.parse_args())
    output, names = chosen.pop("output"), chosen.pop("variants")
    shape = Shape(**chosen)
    taken, foreign = measure(shape, names)
    rows = table(taken, shape)
    for row in rows:
        if "error" in row:
            print(f"{row['variant']:38}{row['error']}")
            continue
        speed = f"{row['tokens_per_second']:8,} tokens/s {row['against_first']:6.2f}"
        print(f"{row['variant']:38}{speed}   first step {row['first_step_s']:6.1f} s")
    write_result("pretraining_cpu", {"shape": asdict(shape), "rows": rows}, foreign, output)


if __name__ == "__main__":
    main()
