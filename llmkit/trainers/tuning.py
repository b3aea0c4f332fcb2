"""Conversations to the rows that `trl.SFTTrainer` trains on, and that trainer with our guard.

Rows come with their labels: -100 everywhere but where the assistant speaks, its end-of-turn token
included. TRL then skips its own preparation, which tokenizes one row at a time and takes a
special token typed by a user for the real one.
Source: https://huggingface.co/docs/trl/sft_trainer
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast
from trl import SFTTrainer
from trl.chat_template_utils import get_training_chat_template

from llmkit.data.chat.chat_rows import Messages
from llmkit.decode import complete
from llmkit.errors import InputError
from llmkit.model import (
    context_length,
    conversation_ids,
    encode_conversations,
    marks_generation,
    stop_ids,
)
from llmkit.progress import Progress
from llmkit.stage import Context
from llmkit.trainers.adapters import old_name_allowed
from llmkit.trainers.guard import Guarded
from llmkit.trainers.step_order import StepOrder

IGNORED = -100  # the label of a token that is not trained on
CHUNK = 1000  # conversations encoded at once
SAMPLE = 16  # conversations whose questions the tuned model answers
LOOKED_AT = 256  # conversations among which they are looked for
MUST_STOP = 0.5  # of the answers; a model that has learnt the format stops nearly always
PROBE: Messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


class Tuner(Guarded, SFTTrainer):
    """TRL's SFTTrainer over rows that hold their labels."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with old_name_allowed():
            super().__init__(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """The default shuffle with less padding; any other strategy is Hugging Face's own."""
        if self.args.train_sampling_strategy != "random":
            return super()._get_train_sampler(train_dataset)
        rows = self.train_dataset if train_dataset is None else train_dataset
        at_once = self.args.per_device_train_batch_size * self.args.world_size
        lengths = pc.list_value_length(rows.data.column("input_ids")).to_pylist()
        rows_per_step = at_once * self.args.gradient_accumulation_steps
        return StepOrder(lengths, rows_per_step, self.args.seed)


@dataclass(frozen=True)
class Rows:
    """Tokenized conversations with at least one trained token each, and what became of the others.

    Attributes:
        dataset: columns `input_ids` and `labels`, lists of int32 of the same length per row.
        truncated: rows cut to the maximum length.
        untrained: conversations left out because nothing of an answer fits into that length.
        open_ended: rows that were not cut, and whose answers do not end with the end-of-turn token.
    """

    dataset: datasets.Dataset
    tokens: int
    trained_tokens: int
    truncated: int
    untrained: int
    open_ended: int


def training_template(tokenizer: PreTrainedTokenizerFast) -> str:
    """The tokenizer's template, or TRL's marked twin of it where it does not mark the answers.

    Raises:
        InputError: there is no template, or one without marks that TRL does not know.
    """
    if tokenizer.chat_template is None or marks_generation(tokenizer.chat_template):
        conversation_ids(tokenizer, PROBE)  # says so where there is none
        return str(tokenizer.chat_template)
    try:
        return str(get_training_chat_template(tokenizer))
    except ValueError as error:
        raise InputError(
            tokenizer.name_or_path,
            "its chat template does not mark what the assistant says",
            "put {% generation %} and {% endgeneration %} round the answer and its end of turn",
        ) from error


def end_of_turn(tokenizer: PreTrainedTokenizerFast, template: str) -> int | None:
    """The special token that closes an answer inside the template's marks; None if none does."""
    ids, mask = encode_conversations(tokenizer, [PROBE], template=template)[0]
    special = set(tokenizer.all_special_ids)
    spoken = [token for token, trained in zip(ids, mask, strict=True) if trained]
    return next((token for token in reversed(spoken) if token in special), None)


def tokenized(
    tokenizer: PreTrainedTokenizerFast,
    template: str,
    chats: Sequence[Messages],
    max_length: int,
    keep_end: bool = False,
    label: str = "sft",
) -> Rows:
    """Encode `chats`, cut each to `max_length` tokens (its end kept with `keep_end`)."""
    closing = end_of_turn(tokenizer, template)
    kept: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    truncated = untrained = open_ended = 0
    part = slice(-max_length, None) if keep_end else slice(0, max_length)
    with Progress(f"{label}: tokenize", len(chats), "conversations") as progress:
        for start in range(0, len(chats), CHUNK):
            chunk = chats[start : start + CHUNK]
            for ids, mask in encode_conversations(tokenizer, chunk, template=template):
                row = np.array(ids, np.int32)
                wanted = np.where(np.array(mask, bool), row, np.int32(IGNORED))
                truncated += len(row) > max_length
                if len(row) <= max_length and closing not in wanted[-2:]:
                    open_ended += 1
                if not (wanted[part] != IGNORED)[1:].any():  # the first token has no predecessor
                    untrained += 1
                    continue
                kept.append(row[part])
                labels.append(wanted[part])
            progress.update(len(chunk))
    return Rows(
        dataset=_dataset(kept, labels),
        tokens=sum(map(len, kept)),
        trained_tokens=sum(int((row != IGNORED).sum()) for row in labels),
        truncated=truncated,
        untrained=untrained,
        open_ended=open_ended,
    )


def _dataset(ids: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> datasets.Dataset:
    """A data set in memory, without the copy through Python lists that `from_dict` makes."""
    offsets = np.cumsum([0, *map(len, ids)], dtype=np.int32)
    columns = {
        name: pa.ListArray.from_arrays(offsets, np.concatenate([*rows, np.array([], np.int32)]))
        for name, rows in (("input_ids", ids), ("labels", labels))
    }
    return datasets.Dataset(datasets.table.InMemoryTable(pa.table(columns)))


def gate_rows(
    context: Context,
    tokenizer: PreTrainedTokenizerFast,
    template: str,
    sample: Sequence[Messages],
    rows: Rows,
    max_bad_rows: int,
) -> None:
    """What must be true of the rows before a step is taken; `sample` is tried as chat asks."""
    closes = end_of_turn(tokenizer, template) is not None
    context.gate(
        "end_of_turn_trained",
        closes and rows.open_ended == 0,
        rows.open_ended if closes else "no special token ends an answer",
        "0 whole rows whose answers end without it",
        "put the end-of-turn token inside {% generation %} of the chat template",
    )
    context.gate(
        "trained_tokens",
        rows.untrained <= max_bad_rows and rows.dataset.num_rows > 0,
        rows.untrained,
        f"at most {max_bad_rows} conversations without a token of an answer",
        "raise args.max_length, or let more be left out with max_bad_rows",
    )
    fitting = prompts_that_fit(tokenizer, template, sample)
    context.gate(
        "same_template",
        fitting == len(sample),
        f"{fitting} of {len(sample)}",
        "all sampled prompts rendered for chat as for training",
        "mend the chat template: add_generation_prompt must render what training shows",
    )


def prompts_that_fit(
    tokenizer: PreTrainedTokenizerFast, template: str, chats: Sequence[Messages]
) -> int:
    """Of how many `chats` is the prompt, as chat renders it, the beginning of the training row.

    Where it is not, the model is trained on one format and asked in another.
    """
    fitting = 0
    for chat in chats:
        full, mask = encode_conversations(tokenizer, [chat], template=template)[0]
        prompt, _ = conversation_ids(tokenizer, chat[:-1], add_generation_prompt=True)
        fitting += full[: len(prompt)] == prompt and mask[len(prompt)] == 1
    return fitting


def gate_stops(
    context: Context,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    chats: Sequence[Messages],
    max_length: int,
) -> float | None:
    """The share of sampled training questions whose answers end by themselves, greedily.

    Asked is what was trained on whole: conversations of at most `max_length` tokens. Each answer
    may have twice the tokens of the longest one that was taught, as far as the context goes. None
    where no conversation is short enough, so that there is nothing to measure.
    """
    bound = f"at least {MUST_STOP} of the answers to training questions end by themselves"
    tried = chats[:LOOKED_AT]
    asked = [ids for ids, _ in encode_conversations(tokenizer, [c[:-1] for c in tried], True)]
    whole = [len(ids) for ids, _ in encode_conversations(tokenizer, tried)]
    fitting = [(p, n - len(p)) for p, n in zip(asked, whole, strict=True) if n <= max_length]
    if not fitting:
        why = f"none of {len(tried)} conversations is within {max_length} tokens"
        context.gate_left_out("generation_stops", why, bound)
        return None
    room, longest = context_length(model), max(answer for _, answer in fitting[:SAMPLE])
    by_budget: dict[int, list[list[int]]] = {}
    for prompt, _ in fitting[:SAMPLE]:
        by_budget.setdefault(min(2 * longest + 16, room - len(prompt)), []).append(prompt)
    ended = [
        ends
        for budget, prompts in by_budget.items()
        for _, ends in complete(
            model, tokenizer, prompts, {"max_new_tokens": budget}, seed=context.seed
        )
    ]
    share = sum(ended) / len(ended)
    remedy = "train longer, or on shorter answers"
    context.gate("generation_stops", share >= MUST_STOP, round(share, 3), bound, remedy)
    return share


def chat_generation(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, closing: int | None
) -> GenerationConfig:
    """How a chat model generates: it ends at its end of turn, and where it ended before."""
    stops = ([] if closing is None else [closing]) + stop_ids(model)
    if tokenizer.eos_token_id is not None:
        stops.append(tokenizer.eos_token_id)
    config = copy.deepcopy(model.generation_config)
    config.eos_token_id = list(dict.fromkeys(stops))
    config.pad_token_id = tokenizer.pad_token_id
    config.bos_token_id = tokenizer.bos_token_id
    config._from_model_config = False  # else transformers works it out anew from config.json
    return config
