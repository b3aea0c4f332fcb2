"""Reward models: one score for a conversation, read where its last answer ends.

A reward model is an ordinary `AutoModelForSequenceClassification` with one label. transformers
reads the score at the rightmost token that is not padding: for a finished answer that is the end
of the chat template (the end of turn), for an unfinished one the last token that was said. Rows are
padded on the right, where causal attention never sees it and positions stay what they are.

Sources: https://arxiv.org/abs/2203.02155 (3.5, the score of a whole answer);
https://huggingface.co/docs/trl/reward_trainer
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as logging_of_transformers

from llmkit.errors import InputError
from llmkit.model import (
    Message,
    context_length,
    encode_conversations,
    load_tokenizer,
    without_bars,
)

PROBES = [
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": said}] for said in "bc"
]


def load_reward_model(
    source: Path | str, revision: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A trained reward model and its tokenizer, in float32 on the CPU, in evaluation mode.

    Raises:
        InputError: the folder or Hub id holds none, its head is missing or gives several scores,
            or its tokenizer has no chat template or nothing to pad with.
    """
    tokenizer = load_tokenizer(source, revision)
    _check_tokenizer(source, tokenizer)
    model, missing = _load(source, revision)
    if missing:
        raise InputError(
            str(source),
            f"is no reward model: {len(missing)} weights are missing ({', '.join(missing[:3])})",
            "name what a `reward` stage made, or another one-label sequence classifier",
        )
    if model.config.num_labels != 1:
        what = f"gives {model.config.num_labels} scores, where a reward is one"
        raise InputError(str(source), what, "name a reward model with num_labels 1")
    return _with_padding(model, tokenizer), tokenizer


def fresh_reward_model(
    source: Path | str, revision: str | None = None, seed: int = 0
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A language model under a new head of one score, drawn from `seed`; and its tokenizer.

    A folder that is a reward model already keeps its head.

    Raises:
        InputError: weights other than the head's are missing, or the tokenizer has no chat
            template or no padding token that tells padding from the end of a turn.
    """
    tokenizer = load_tokenizer(source, revision)
    _check_tokenizer(source, tokenizer)
    if tokenizer.pad_token_id in closing_ids(tokenizer):
        raise InputError(
            str(source),
            f"pads with {tokenizer.pad_token}, which also ends a turn: that end would not be read",
            "give the tokenizer a padding token of its own",
        )
    with torch.random.fork_rng(devices=[]):  # the head is drawn on the CPU
        torch.manual_seed(seed)
        model, missing = _load(source, revision, num_labels=1)
    body = f"{model.base_model_prefix}."
    lost = [name for name in missing if name.startswith(body)]
    if lost:
        raise InputError(
            str(source),
            f"{len(lost)} weights are missing ({', '.join(lost[:3])})",
            "this is not a complete language model: give one that is",
        )
    return _with_padding(model, tokenizer), tokenizer


def _load(
    source: Path | str, revision: str | None, **init: Any
) -> tuple[PreTrainedModel, list[str]]:
    """The classifier, and the names of those of its weights that `source` lacks."""
    folder = Path(source).expanduser()
    try:
        with without_bars(), _without_warnings():
            model, loaded = AutoModelForSequenceClassification.from_pretrained(
                folder if folder.is_dir() else source,
                revision=revision or "main",
                use_safetensors=True,
                output_loading_info=True,
                dtype=torch.float32,
                trust_remote_code=False,
                **init,
            )
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            str(source),
            f"cannot be loaded as a sequence classifier ({reason[:200]})",
            "name an earlier stage, a model folder with model.safetensors, or a Hub id",
        ) from error
    model.eval()
    return model, sorted(loaded["missing_keys"])


@contextmanager
def _without_warnings() -> Iterator[None]:
    """transformers warns of a head that is new or left over; here the names are looked at."""
    before = logging_of_transformers.get_verbosity()
    logging_of_transformers.set_verbosity_error()
    try:
        yield
    finally:
        logging_of_transformers.set_verbosity(before)


def _check_tokenizer(source: Path | str, tokenizer: PreTrainedTokenizerFast) -> None:
    if tokenizer.chat_template is None:
        remedy = "a reward model scores conversations: give a tokenizer that has one"
        raise InputError(str(source), "its tokenizer has no chat template", remedy)
    if tokenizer.pad_token_id is None:
        remedy = "set pad_token in tokenizer_config.json"
        raise InputError(str(source), "its tokenizer has no padding token", remedy)


def _with_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Told in the configuration, where a classifier looks for the token that is not to be read."""
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return model


# Conversations -------------------------------------------------------------------------------


def closing_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The tokens with which the chat template closes an answer: the end of turn and what follows.

    Raises:
        InputError: no special token closes it, so that an answer cut off would look finished.
    """
    one, other = (ids for ids, _ in encode_conversations(tokenizer, PROBES))
    closing = one[len(one) - shared(one[::-1], other[::-1]) :]
    if not closing or closing[0] not in tokenizer.all_special_ids:
        raise InputError(
            tokenizer.name_or_path or "tokenizer",
            "its chat template closes an answer with no special token",
            "let the template end the assistant's turn with one, such as <|end|>",
        )
    return closing


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two rows have in common from their beginning."""
    most = min(len(one), len(other))
    if one[:most] == other[:most]:
        return most
    return next(index for index in range(most) if one[index] != other[index])


def scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    chats: Sequence[Sequence[Message]],
    batch_size: int = 64,
    *,
    ended: Sequence[bool] | None = None,
) -> list[float]:
    """The reward model's score of the last answer of each conversation.

    Args:
        chats: conversations that end with the assistant's message (which may be empty).
        ended: whether each answer was finished; one that was not is scored without its end of
            turn. All are where this is not given.

    Raises:
        InputError: a conversation does not end with an answer, or that answer leaves no room for
            a prompt in the model's context. (A long prompt loses its beginning.)
    """
    rows = scored_rows(tokenizer, chats, ended, context_length(model))
    return row_scores(model, rows, batch_size)


def scored_rows(
    tokenizer: PreTrainedTokenizerFast,
    chats: Sequence[Sequence[Message]],
    ended: Sequence[bool] | None,
    max_length: int,
) -> list[list[int]]:
    """The ids of each conversation as the model reads it."""
    for number, chat in enumerate(chats, start=1):
        if not chat or chat[-1]["role"] != "assistant":
            raise InputError(f"conversation {number}", "does not end with an answer to score")
    finished = [True] * len(chats) if ended is None else list(ended)
    whole = [ids for ids, _ in encode_conversations(tokenizer, chats)]
    asked = [ids for ids, _ in encode_conversations(tokenizer, [chat[:-1] for chat in chats], True)]
    closing = [] if all(finished) else closing_ids(tokenizer)
    rows = []
    for number, (ids, prompt, end) in enumerate(zip(whole, asked, finished, strict=True), start=1):
        row = ids if end else without_end(ids, closing)
        if len(row) > max_length and len(row) - shared(prompt, row) >= max_length:
            raise InputError(
                f"conversation {number}",
                f"its answer leaves no room for a prompt in the {max_length} tokens of the model",
                "score shorter answers",
            )
        rows.append(row[-max_length:])
    return rows


def without_end(ids: list[int], closing: list[int]) -> list[int]:
    """An unfinished answer: the row without the tokens that close it. `closing` is not empty."""
    if ids[-len(closing) :] != closing:
        what = "closes this answer in another way than others"
        raise InputError("chat template", what, "let it close every answer with the same tokens")
    return ids[: -len(closing)]


def row_scores(
    model: PreTrainedModel, rows: Sequence[Sequence[int] | np.ndarray], batch_size: int = 64
) -> list[float]:
    """The score of each row of ids; rows of like length share a batch."""
    pad = model.config.get_text_config().pad_token_id
    order = sorted(range(len(rows)), key=lambda index: (len(rows[index]), index))
    found = [0.0] * len(rows)
    training = model.training
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            width = len(rows[batch[-1]])
            ids = torch.tensor([[*rows[i], *[pad] * (width - len(rows[i]))] for i in batch])
            mask = torch.tensor([[1] * len(rows[i]) + [0] * (width - len(rows[i])) for i in batch])
            logits = model(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                use_cache=False,
            ).logits
            for index, score in zip(batch, logits[:, 0].float().tolist(), strict=True):
                found[index] = score
    model.train(training)
    return found
