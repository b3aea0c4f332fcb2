"""Asks a model a task's examples, and scores what it answers.

Figures come with 95 % intervals: Wilson's where all scores are 0 or 1, Student's where not.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmkit.errors import InputError
from llmkit.tasks.task import Completion, Example, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

log = logging.getLogger("llmkit")

Rows = list[dict[str, Any]]


def ask(
    task: Task,
    examples: Sequence[Example],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    generation: Mapping[str, Any],
    batch_size: int,
    seed: int,
    label: str,
) -> Rows:
    """Each example with what the model wrote and how it scored.

    An example whose prompt leaves no room for `generation["max_new_tokens"]` in the model's context
    is left out. Raises InputError where none has room.
    """
    from llmkit.decode import complete

    fitting = with_room(examples, model, tokenizer, generation["max_new_tokens"], label)
    ids = [ids for _, ids in fitting]
    written = complete(model, tokenizer, ids, dict(generation), batch_size, seed, label)
    rows = []
    for (example, _), (tokens, ended) in zip(fitting, written, strict=True):
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        scores = task.score(example, Completion(text, ended))
        rows.append(
            {"prompt": example.prompt, "answer": example.answer, "completion": text}
            | {"ended": ended, "scores": scores}
        )
    return rows


def with_room(
    examples: Sequence[Example],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    new_tokens: int,
    label: str,
) -> list[tuple[Example, list[int]]]:
    """The examples with the ids of their prompts, where these leave room for the answer."""
    from llmkit.model import context_length

    room = context_length(model) - new_tokens
    asked = list(zip(examples, prompts(tokenizer, examples), strict=True))
    fitting = [(example, ids) for example, ids in asked if len(ids) <= room]
    if len(fitting) < len(asked):
        left = len(asked) - len(fitting)
        log.warning("%s: %d of %d prompts do not fit the context", label, left, len(asked))
    if not fitting:
        remedy = "choose another task, or fewer max_new_tokens"
        raise InputError(label, "no example whose prompt fits the model's context", remedy)
    return fitting


def prompts(tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example]) -> list[list[int]]:
    """Ids of the examples' prompts: chats by the template, plain texts as a document begins."""
    from llmkit.decode import prompt_ids
    from llmkit.model import encode_conversations

    chats = [e.prompt for e in examples if not isinstance(e.prompt, str)]
    encoded = iter(encode_conversations(tokenizer, chats, True) if chats else [])
    return [
        prompt_ids(tokenizer, e.prompt) if isinstance(e.prompt, str) else next(encoded)[0]
        for e in examples
    ]


def intervals(rows: Rows, label: str) -> dict[str, dict[str, float]]:
    """Metric -> {value, low, high, n} over all rows, which have the same metrics.

    Raises:
        InputError: one score is all there is, and it is neither 0 nor 1.
    """
    from llmkit.metrics.mean import Mean
    from llmkit.metrics.proportion import Proportion

    found = {}
    for metric in rows[0]["scores"]:
        scores = [row["scores"][metric] for row in rows]
        share = set(scores) <= {0.0, 1.0}
        if not share and len(scores) < 2:
            raise InputError(label, "one score has no interval", "raise the task's limit")
        found[metric] = (Proportion() if share else Mean()).compute(scores=scores)
    return found
