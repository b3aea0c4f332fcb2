"""Prompts to completions: `transformers.generate` in batches, repeatable.

Source: left padding for batched generation,
https://huggingface.co/docs/transformers/llm_tutorial#wrong-padding-side
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from llmkit.errors import InputError
from llmkit.model import context_length, stop_ids
from llmkit.progress import Progress

# Sampling settings that a model's own generation_config.json must not slip into a measurement.
NEUTRAL = {"do_sample": False, "num_beams": 1, "temperature": 1.0, "top_p": 1.0}
NEUTRAL |= {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0}


def complete(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Sequence[int]],
    generation: Mapping[str, Any] | None = None,
    batch_size: int = 64,
    seed: int = 0,
    label: str = "generate",
) -> list[tuple[list[int], bool]]:
    """Continue each prompt (ids) by transformers' `generate`: greedy unless `generation` samples.

    Returns, in the order of the prompts, the new ids without the stop token, and whether the
    model stopped by itself. Prompts of like length share a batch. The same arguments give the
    same answers. Raises InputError for a prompt that leaves no room for `max_new_tokens`.
    """
    config = _generation_config(model, tokenizer, generation or {})
    _check_room(prompts, config.max_new_tokens, context_length(model))
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    results: list[tuple[list[int], bool]] = [([], False)] * len(prompts)
    training, device = model.training, model.device
    devices = [device] if device.type == "cuda" else []
    model.eval()
    with torch.random.fork_rng(devices), Progress(label, len(prompts), "prompts") as progress:
        torch.manual_seed(seed)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            ids, attention = _left_padded([prompts[i] for i in batch], config.pad_token_id)
            inputs = {"input_ids": ids.to(device), "attention_mask": attention.to(device)}
            with torch.inference_mode():
                output = model.generate(**inputs, generation_config=config)
            for index, row in zip(batch, output[:, ids.shape[1] :].tolist(), strict=True):
                results[index] = _until_stop(row, config.eos_token_id)
            progress.update(len(batch))
    model.train(training)
    return results


def _generation_config(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, generation: Mapping[str, Any]
) -> GenerationConfig:
    eos = stop_ids(model) or [tokenizer.eos_token_id]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eos[0]
    # transformers warns of a top_k that greedy decoding does not use, so it keeps its default.
    top_k = 0 if generation.get("do_sample") else 50
    own = {"eos_token_id": eos, "pad_token_id": pad, "max_new_tokens": 32, "top_k": top_k}
    config = GenerationConfig(**(NEUTRAL | own | dict(generation)))
    if isinstance(config.eos_token_id, int):
        config.eos_token_id = [config.eos_token_id]
    return config


def _check_room(prompts: Sequence[Sequence[int]], new_tokens: int, context: int) -> None:
    for index, prompt in enumerate(prompts):
        if not prompt or len(prompt) + new_tokens > context:
            raise InputError(
                f"prompt {index + 1}",
                f"has {len(prompt)} tokens, and with {new_tokens} new ones the model's context "
                f"of {context} must hold it",
                "give a shorter prompt (not an empty one), or a smaller max_new_tokens",
            )


def _left_padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T) ids with the padding on the left, and the (B, T) mask of what is no padding."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def _until_stop(row: Sequence[int], stops: Sequence[int]) -> tuple[list[int], bool]:
    for index, token in enumerate(row):
        if token in stops:
            return list(row[:index]), True
    return list(row), False
