"""Preference pairs to the rows that `trl.RewardTrainer` and `trl.DPOTrainer` train on.

Rows come as ids by the tokenizer's chat template, so that a special token typed by a user stays
text, which TRL's own preparation takes for the real one. Both sides share their prompt. A finished
answer keeps its end of turn and an unfinished one has none, so what a model learns of ending lies
in that token. A row too long loses the beginning of its prompt, never of an answer.

Sources: https://huggingface.co/docs/trl/reward_trainer, https://huggingface.co/docs/trl/dpo_trainer
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import datasets
import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from llmkit.data.tokens.holdout import text_hash
from llmkit.errors import InputError
from llmkit.model import encode_conversations
from llmkit.progress import Progress
from llmkit.reward_model import closing_ids, shared, without_end
from llmkit.stage import Context

if TYPE_CHECKING:
    from llmkit.data.chat.chat_rows import Messages
    from llmkit.data.chat.preferences import Pair

Ids = np.ndarray  # of int32

CHUNK = 1000  # pairs encoded at once
SAMPLE = 16  # pairs on which the template is tried
MEASURABLE = 2  # held-out pairs at least: one says nothing of the spread


@dataclass(frozen=True)
class PairRows:
    """Tokenized pairs, and what became of those that were too long.

    Attributes:
        pairs: the pairs that became rows; the three lists below are theirs, in their order.
        prompts: up to where the assistant speaks, cut from the left where the row was too long.
        chosen: the answer with its end of turn.
        rejected: the same, or without an end of turn where the answer was not finished.
        truncated: rows whose prompt was cut.
        left_out: pairs of which an answer leaves no room for a token of the prompt.
        fitting: of the first `SAMPLE` pairs, those whose prompt as chat asks begins both sides.
    """

    pairs: list[Pair]
    prompts: list[Ids]
    chosen: list[Ids]
    rejected: list[Ids]
    truncated: int
    left_out: int
    fitting: int
    sampled: int

    @property
    def tokens(self) -> int:
        """Of all sequences: each prompt is read once with either answer."""
        prompts = sum(map(len, self.prompts))
        return 2 * prompts + sum(map(len, self.chosen)) + sum(map(len, self.rejected))


# Which pairs are held out ---------------------------------------------------------------------


def prompt_hash(prompt: Messages) -> int:
    """A number in [0, 2^64) of the prompt alone: neither seed nor the other pairs matter."""
    return text_hash(json.dumps(prompt, ensure_ascii=False, sort_keys=True))


def divided(pairs: Sequence[Pair], fraction: float) -> tuple[list[Pair], list[Pair]]:
    """Pairs to train on, and pairs held out: about `fraction` of the prompts, with all of theirs.

    The same prompt falls on the same side in every stage and every data set.
    """
    bound = int(fraction * 2**64)
    sides: tuple[list[Pair], list[Pair]] = ([], [])
    for pair in pairs:
        sides[prompt_hash(pair.prompt) < bound].append(pair)
    return sides


def unseen(held_out: Sequence[Pair], train: Sequence[Pair]) -> tuple[list[Pair], int]:
    """The held-out pairs whose prompt is not trained on, and the number of the others."""
    trained = {prompt_hash(pair.prompt) for pair in train}
    kept = [pair for pair in held_out if prompt_hash(pair.prompt) not in trained]
    return kept, len(held_out) - len(kept)


def check_sides(train: Sequence[Pair], held_out: Sequence[Pair], stage: str) -> None:
    """Raise InputError where there is nothing to train on, or too little to measure on."""
    if not train:
        remedy = "lower eval_fraction, or name more pairs"
        raise InputError(f"{stage}.dataset", "no pair is left to train on", remedy)
    if len(held_out) < MEASURABLE:
        what = f"{len(held_out)} pairs are held out, with prompts that are not trained on"
        remedy = "raise eval_fraction, or name an eval_dataset of other prompts"
        raise InputError(f"{stage}.dataset", what, remedy)


# Rows -----------------------------------------------------------------------------------------


def tokenized(
    tokenizer: PreTrainedTokenizerFast, pairs: Sequence[Pair], max_length: int, label: str
) -> PairRows:
    """Encode `pairs`, each side cut to `max_length` tokens from the left of the common prompt."""
    closing = closing_ids(tokenizer)
    kept: list[Pair] = []
    rows: list[tuple[Ids, Ids, Ids]] = []
    truncated = left_out = fitting = 0
    with Progress(label, len(pairs), "pairs") as progress:
        for start in range(0, len(pairs), CHUNK):
            chunk = pairs[start : start + CHUNK]
            encoded = _encoded(tokenizer, chunk, closing)
            for index, (pair, asked, sides) in enumerate(zip(chunk, *encoded, strict=True), start):
                common = min(shared(asked, side) for side in sides)
                fitting += index < SAMPLE and common == len(asked)
                room = max_length - max(len(side) - common for side in sides)
                if room < 1:
                    left_out += 1
                    continue
                truncated += room < common
                kept.append(pair)
                chosen, rejected = (np.array(side[common:], np.int32) for side in sides)
                rows.append((np.array(asked[:common][-room:], np.int32), chosen, rejected))
            progress.update(len(chunk))
    prompts, chosens, rejecteds = ([row[side] for row in rows] for side in range(3))
    sampled = min(SAMPLE, len(pairs))
    return PairRows(kept, prompts, chosens, rejecteds, truncated, left_out, fitting, sampled)


def _encoded(
    tokenizer: PreTrainedTokenizerFast, pairs: Sequence[Pair], closing: list[int]
) -> tuple[list[list[int]], list[tuple[list[int], list[int]]]]:
    """Ids of each prompt as chat asks, and of each whole conversation: chosen, rejected."""

    def ids_of(chats: list[Messages], asks: bool = False) -> list[list[int]]:
        return [ids for ids, _ in encode_conversations(tokenizer, chats, asks)]

    asked = ids_of([pair.prompt for pair in pairs], asks=True)
    chosen = ids_of([answered(pair.prompt, pair.chosen) for pair in pairs])
    rejected = ids_of([answered(pair.prompt, pair.rejected) for pair in pairs])
    ends = [pair.rejected_ended for pair in pairs]
    cut = [
        ids if ended else without_end(ids, closing)
        for ids, ended in zip(rejected, ends, strict=True)
    ]
    return asked, list(zip(chosen, cut, strict=True))


def answered(prompt: Messages, answer: str) -> Messages:
    return [*prompt, {"role": "assistant", "content": answer}]


def whole_rows(rows: PairRows) -> datasets.Dataset:
    """For the reward trainer: `chosen_ids` and `rejected_ids`, each prompt and answer together."""
    return _dataset(
        chosen_ids=joined(rows.prompts, rows.chosen),
        rejected_ids=joined(rows.prompts, rows.rejected),
    )


def divided_rows(rows: PairRows) -> datasets.Dataset:
    """For the DPO trainer: `prompt_ids`, `chosen_ids` and `rejected_ids`."""
    return _dataset(prompt_ids=rows.prompts, chosen_ids=rows.chosen, rejected_ids=rows.rejected)


def joined(prompts: Sequence[Ids], answers: Sequence[Ids]) -> list[Ids]:
    return [np.concatenate(parts) for parts in zip(prompts, answers, strict=True)]


def _dataset(**columns: Sequence[Ids]) -> datasets.Dataset:
    """In memory, without the copy through Python lists that `from_dict` makes."""
    table = {}
    for name, rows in columns.items():
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        values = np.concatenate([*rows, np.array([], np.int32)])
        table[name] = pa.LargeListArray.from_arrays(offsets, values)
    return datasets.Dataset(datasets.table.InMemoryTable(pa.table(table)))


def gate_rows(
    context: Context,
    tokenizer: PreTrainedTokenizerFast,
    train: PairRows,
    held_out: PairRows,
    max_bad_rows: int,
) -> None:
    """What must be true of the rows before a step is taken.

    Raises:
        InputError: the pairs that are short enough are too few.
    """
    left_out = train.left_out + held_out.left_out
    context.gate(
        "answers_fit",
        left_out <= max_bad_rows,
        left_out,
        f"at most {max_bad_rows} pairs whose answers leave no room for a prompt",
        "raise args.max_length, or let more be left out with max_bad_rows",
    )
    context.gate(
        "same_template",
        train.fitting == train.sampled,
        f"{train.fitting} of {train.sampled}",
        "all sampled prompts rendered for chat as for training",
        "mend the chat template: add_generation_prompt must render what training shows",
    )
    check_sides(train.pairs, held_out.pairs, context.name)
