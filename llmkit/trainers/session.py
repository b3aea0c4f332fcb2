"""One training from wherever it stands to its end: resume, patches, signals, display, gates.

What `run` of a trainer stage has in common with the others; its own measuring comes in between:

    trainer = Pretrainer(model=..., args=..., context=context, ...)
    figures = train(trainer, self.patches)
    save_model(trainer, context.out)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, TrainerState
from transformers.trainer_utils import TrainOutput

from llmkit.errors import Stopped
from llmkit.model import without_bars
from llmkit.patch import patched
from llmkit.ranks import current
from llmkit.trainers.checkpoints import STATE, SealCheckpoints, is_complete, newest_whole_checkpoint
from llmkit.trainers.display import ShowProgress, cut_back
from llmkit.trainers.guard import GATE
from llmkit.trainers.pace import Pace, Rates, Spent
from llmkit.trainers.spikes import KeepSpikes
from llmkit.trainers.stopping import StopOnSignal

log = logging.getLogger("llmkit")

# Rows of steps that are done, in a stage's logs; the first is the curve.
CURVES = ("train.jsonl", "samples.jsonl", "completions.jsonl")


def train(
    trainer: Any, patches: str | Sequence[str] = "none", context_length: int | None = None
) -> dict[str, Any]:
    """Train a `Guarded` trainer to its last step, from its newest whole checkpoint if it has one.

    Args:
        patches: as `llmkit.patch.patched` takes them, lent to the model for the training.
        context_length: tokens that every row has; where it is given, MFU is told (see
            `llmkit.cost.flops`) on a GPU that the table knows.

    Returns:
        `{steps, tokens, train_loss, train_seconds, tokens_per_second}`: steps and tokens of the
        whole training, and three figures of what this process did, left out when nothing was left;
        `mfu` and `mfu_nanogpt` (of 1) and `cost` (dollars of it all) where they can be told.

    Raises:
        Stopped: a signal came; a checkpoint holds everything, and the same call goes on from it.
        GateError: a loss or gradient is not finite, or a gate of the trainer's own did not pass.
    """
    folder = Path(trainer.args.output_dir)
    checkpoint = current().by_the_first(lambda: newest_whole_checkpoint(folder))
    if checkpoint is not None:
        trainer.recall_gates()
    if checkpoint is not None and is_complete(checkpoint):
        return _nothing_left(trainer, checkpoint)
    _begin_at(trainer, checkpoint)
    pace = _pace(trainer, context_length)
    show, stop = _watched(trainer, pace)
    started = time.monotonic()
    try:
        with stop.listening(), without_bars(), patched(trainer.model, patches):
            result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        show.close()
    if stop.signal_number is not None:
        raise Stopped(stop.signal_number, trainer.context.name)
    trainer.context.gate(GATE, True, round(result.training_loss, 4), "finite", "")
    return _figures(trainer, result, pace, time.monotonic() - started)


def _watched(trainer: Any, pace: Pace) -> tuple[ShowProgress, StopOnSignal]:
    """Adds the callbacks. What goes into a checkpoint is written before it is sealed."""
    curve = trainer.context.logs / CURVES[0]
    show = ShowProgress(trainer.context.name, curve, trainer.meter, pace)
    keep = [] if trainer.spikes is None else [KeepSpikes(trainer.spikes)]
    seal, stop = SealCheckpoints(keep=trainer.args.save_total_limit), StopOnSignal()
    trainer.args.save_total_limit = None  # theirs would delete before the new one is sealed
    for callback in (show, *keep, seal, stop):
        trainer.add_callback(callback)
    return show, stop


def _pace(trainer: Any, context_length: int | None) -> Pace:
    ranks, rates = trainer.args.world_size, None
    if context_length is not None:
        rates = Rates.of(trainer.model, context_length, ranks)
    return Pace(trainer.meter, ranks, trainer.context.price, rates)


def _begin_at(trainer: Any, checkpoint: Path | None) -> None:
    """Take up what a checkpoint holds, and take away the rows that will be written again."""
    step = -1  # below the row of the first loss
    if checkpoint is not None:
        log.info("%s: going on from %s", trainer.context.name, checkpoint.name)
        step = TrainerState.load_from_json(str(checkpoint / STATE)).global_step
        settle_ratios(trainer.args, checkpoint)
        trainer.meter.before = Spent.until(checkpoint)
        if trainer.spikes is not None:
            trainer.spikes.load(checkpoint)
    for name in CURVES if trainer.args.should_save else ():
        cut_back(trainer.context.logs / name, step)


def _figures(trainer: Any, result: TrainOutput, pace: Pace, seconds: float) -> dict[str, Any]:
    rate = trainer.meter.tokens * pace.ranks / seconds
    skipped = {} if trainer.spikes is None else {"skipped_steps": trainer.spikes.skipped}
    return {
        "steps": result.global_step,
        "tokens": pace.spent().tokens,
        "train_loss": result.training_loss,
        "train_seconds": round(seconds, 2),
        "tokens_per_second": round(rate),
        **pace.mfu(rate),
        **pace.cost(),
        **skipped,
    }


def settle_ratios(args: Any, checkpoint: Path) -> None:
    """`save_steps: 0.1` becomes the number of steps that the checkpoint says it came to.

    Hugging Face's Trainer would warn that 0.1 is not that number.
    """
    state = TrainerState.load_from_json(str(checkpoint / STATE))
    for name in ("logging_steps", "eval_steps", "save_steps"):
        if 0 < (getattr(args, name) or 0) < 1:
            setattr(args, name, getattr(state, name))


def _nothing_left(trainer: Any, checkpoint: Path) -> dict[str, Any]:
    """A kill came after the last step: the weights are taken, and no step.

    (Hugging Face's Trainer would take one step more when the last one ended no epoch.)
    """
    log.info("%s: trained already, up to %s", trainer.context.name, checkpoint.name)
    trainer._load_from_checkpoint(str(checkpoint))
    state = TrainerState.load_from_json(str(checkpoint / STATE))
    trainer.state = state
    trainer.context.gate(GATE, True, "all steps", "finite", "")
    return {"steps": state.global_step, "tokens": Spent.until(checkpoint).tokens}


def save_model(trainer: Any, out: Path) -> None:
    """Write the trained model and its tokenizer to `out`, as `from_pretrained` reads them.

    All ranks call it. No `training_args.bin`: it is a pickle, and holds absolute paths.
    """
    # The Trainer turns the key-value cache off in the configuration that it is given.
    trainer.model.config.use_cache = True
    if trainer.model.can_generate():
        name_one_stop(trainer.model.generation_config)
    with without_bars():
        trainer.save_model(str(out))
    if trainer.args.should_save:
        (out / "training_args.bin").unlink(missing_ok=True)


def name_one_stop(generation: GenerationConfig) -> None:
    """Write one stop token as a number, whether or not the Trainer has made a list of it.

    Older ones do when they begin to train (transformers 5.17), and a resume that finds no step
    left to take does not begin.
    """
    stops = generation.eos_token_id
    if isinstance(stops, list) and len(stops) == 1:
        generation.eos_token_id = stops[0]
