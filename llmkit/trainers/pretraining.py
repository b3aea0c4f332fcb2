"""`Pretrainer`: `transformers.Trainer` over token shards, with an exact validation loss.

Bits per byte of a text do not depend on the tokenizer (The Pile, https://arxiv.org/abs/2101.00027,
section 3.1); the negative log-likelihood is summed over all tokens, ends of documents included:

    bits_per_byte = sum_t -ln p(token_t | tokens before it in its window) / (ln 2 * bytes of text)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer, TrainerControl, default_data_collator

from llmkit.data.tokens.shards import TokenWindows
from llmkit.progress import Progress
from llmkit.ranks import current
from llmkit.tasks.choosing import chosen, shares
from llmkit.tasks.task import Choice
from llmkit.trainers.guard import Guarded

FIRST_LOSS = "first_loss"
FIRST_LOSS_MARGIN = 1.0  # nats; a wide model's random logits add about n_embd * 0.02^2 / 2


class Pretrainer(Guarded, Trainer):
    """Trains a model on `TokenWindows`, whose order is their own.

    Args:
        fresh: whether the weights are random, which the first loss has to show.
        choices: task -> what the model is let choose at every evaluation.
    """

    control: TrainerControl

    def __init__(
        self,
        *args: Any,
        fresh: bool = True,
        choices: Mapping[str, Sequence[Choice]] | None = None,
        **kwargs: Any,
    ) -> None:
        self.fresh, self.choices = fresh, dict(choices or {})
        super().__init__(*args, data_collator=default_data_collator, **kwargs)

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Sampler[int]:
        """In order: the windows are shuffled inside, so a resumed run only needs to count."""
        return SequentialSampler(self.train_dataset)

    def check_loss(self, loss: float) -> None:
        """The first loss, before anything is learned, is kept and judged."""
        if self.state.global_step == 0:
            self.log({FIRST_LOSS: loss})
            if self.args.should_save:
                self._first_loss_note.write_text(json.dumps(loss), encoding="utf-8")
            self.gate_first_loss(loss)

    @property
    def _first_loss_note(self) -> Path:
        return self.context.scratch / f"{FIRST_LOSS}.json"

    def recall_gates(self) -> None:
        """The first loss is measured once, at the very start."""
        if self._first_loss_note.is_file():
            self.gate_first_loss(json.loads(self._first_loss_note.read_text(encoding="utf-8")))

    def gate_first_loss(self, loss: float) -> None:
        """A fresh model can but guess, ln(vocabulary) nats a token; a trained one does better."""
        guess = math.log(self.model.config.vocab_size)
        if self.fresh:
            passed = abs(loss - guess) <= FIRST_LOSS_MARGIN
            bound = f"within {FIRST_LOSS_MARGIN} of ln(vocabulary) = {guess:.3f}"
            remedy = "set initializer_range back to its default, and see that labels are the inputs"
        else:
            passed, bound = loss < guess, f"below ln(vocabulary) = {guess:.3f}"
            remedy = "see that the shards were made with the tokenizer that the model was"
        self.context.gate(FIRST_LOSS, passed, round(loss, 3), bound, remedy)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """`{eval_loss, eval_bits_per_byte}` over every token of the validation split.

        The loss is in nats a token. Hugging Face's loop averages batches, which weighs the tokens
        of a last, shorter window more than others. With `choices`, the shares of those made right.
        """
        windows: TokenWindows = eval_dataset or self.eval_dataset
        nats = self._summed_loss(windows)
        metrics = {
            "loss": nats / windows.predicted,
            "bits_per_byte": bits_per_byte(nats, windows.stream.bytes),
            **self._choices_made(),
        }
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _choices_made(self) -> dict[str, float]:
        """`{hellaswag_accuracy_norm, hellaswag_accuracy}`; each rank takes every n-th choice."""
        found: dict[str, float] = {}
        for task, choices in self.choices.items():
            label, ranks = f"{self.context.name}: {task}", self.args.world_size
            own = choices[self.args.process_index :: ranks]
            with self.accelerator.autocast():
                right = chosen(own, self.model, self.processing_class, label)
            right = [pair for part in current().gathered(right) for pair in part]
            figures = shares(right, label)
            found |= {f"{task}_{metric}": figure["value"] for metric, figure in figures.items()}
        return found

    @torch.no_grad()
    def _summed_loss(self, windows: TokenWindows) -> float:
        """Nats over all predicted tokens; each rank takes every `world_size`-th batch."""
        size, ranks = self.args.per_device_eval_batch_size, self.args.world_size
        rounds = math.ceil(len(windows) / (size * ranks))
        total = torch.zeros((), dtype=torch.float64, device=self.args.device)
        self.model.eval()
        with Progress(f"{self.context.name}: validation", rounds, "batches") as progress:
            for number in range(rounds):
                first = (number * ranks + self.args.process_index) * size
                rows = range(first, min(first + size, len(windows)))
                # A rank whose share is used up goes along, since sharded models meet in forward.
                batch = self._prepare_inputs(windows.batch(rows or [0]))
                with self.accelerator.autocast():
                    loss = self.model(**batch).loss
                if rows:
                    total += loss.double() * (batch["labels"][:, 1:] != -100).sum()
                progress.update()
        return float(self.accelerator.reduce(total, "sum"))


def bits_per_byte(nats: float, num_bytes: int) -> float:
    """Summed negative log-likelihood (nats) of a text of `num_bytes` (UTF-8), in bits a byte."""
    return nats / (math.log(2) * num_bytes)
