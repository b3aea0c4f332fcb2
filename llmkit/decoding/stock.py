"""Decoding by transformers' `generate`, for what our loop does not do.

Source: left padding for batched generation,
https://huggingface.co/docs/transformers/llm_tutorial#wrong-padding-side
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from llmkit.decoding.loop import Decoded, stops_of, until_stop
from llmkit.decoding.sampling import log_probability, temperature
from llmkit.decoding.support import bare
from llmkit.errors import UserError


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    log_probabilities: bool = False,
) -> Decoded:
    """Continue `prompts` as one batch, with the global random numbers where `config` samples."""
    _check(config, log_probabilities)
    config = copy.deepcopy(config)
    # What `config` leaves unset shall be neutral, and these two are not in transformers.
    config.top_k = 0 if config.top_k is None and config.do_sample else config.top_k
    config.return_dict_in_generate, config.output_logits = log_probabilities, log_probabilities
    stops = stops_of(config)
    if config.pad_token_id is None:
        config.pad_token_id = stops[0] if stops else 0
    ids, attention = left_padded(prompts, config.pad_token_id)
    inputs = {"input_ids": ids.to(model.device), "attention_mask": attention.to(model.device)}
    with torch.inference_mode(), all_tokens_given(bare(model)), no_settings(bare(model)):
        output = model.generate(**inputs, generation_config=config)
    sequences = output.sequences if log_probabilities else output
    rows = sequences[:, ids.shape[1] :]
    cut = [until_stop(row, set(stops)) for row in rows.tolist()]
    found = [row for row, _ in cut]
    scored = None
    if log_probabilities:
        heat = temperature(config)
        steps = zip(output.logits, rows.T, strict=True)
        each = [log_probability(logits.float() / heat, tokens) for logits, tokens in steps]
        both = zip(torch.stack(each, 1).tolist(), found, strict=True)
        scored = [row[: len(written)] for row, written in both]
    return Decoded(found, [ended for _, ended in cut], scored)


def _check(config: GenerationConfig, log_probabilities: bool) -> None:
    if (config.num_return_sequences or 1) != 1:
        remedy = "give the prompt as often as it shall be answered"
        raise UserError("generation.num_return_sequences", "a prompt gets one completion", remedy)
    if log_probabilities and (config.num_beams or 1) != 1:
        what = "a beam's steps have no log-probabilities of their own"
        raise UserError("generation.num_beams", what, "leave it out")


@contextmanager
def all_tokens_given(model: Any) -> Iterator[None]:
    """Say, while generating, that no input of `model` is padding without a mask.

    transformers drops a mask that masks nothing, and takes the filling behind an answer that has
    ended for padding that nobody masked; so the model's configuration names no padding token
    meanwhile. Generation goes by the one in its GenerationConfig.
    """
    config = model.config.get_text_config()
    before, config.pad_token_id = config.pad_token_id, None
    try:
        yield
    finally:
        config.pad_token_id = before


@contextmanager
def no_settings(model: Any) -> Iterator[None]:
    """Keep the model's own generation settings out of what a given GenerationConfig leaves open."""
    before, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = before


def left_padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T) ids with the padding on the left, and the (B, T) mask of what is no padding."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask
