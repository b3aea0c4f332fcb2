"""Prompts to completions by `transformers.generate`, texts to their likelihood; repeatable.

Source: left padding for batched generation,
https://huggingface.co/docs/transformers/llm_tutorial#wrong-padding-side
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from llmkit.errors import InputError
from llmkit.model import context_length, stop_ids
from llmkit.progress import Progress

# Sampling settings that a model's own generation_config.json must not slip into a measurement.
NEUTRAL = {"do_sample": False, "num_beams": 1, "temperature": 1.0, "top_p": 1.0}
NEUTRAL |= {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0}

LOGITS = 2**26  # floats that a likelihood batch may hold at once: 256 MiB


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
    config = generation_config(model, tokenizer, generation or {})
    _check_room(prompts, config.max_new_tokens, context_length(model))
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    results: list[tuple[list[int], bool]] = [([], False)] * len(prompts)
    training, device = model.training, model.device
    devices = [device] if device.type == "cuda" else []
    model.eval()
    progress = Progress(label, len(prompts), "prompts")
    with torch.random.fork_rng(devices), all_tokens_given(model), progress:
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


@contextmanager
def all_tokens_given(model: PreTrainedModel) -> Iterator[None]:
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


def generation_config(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, generation: Mapping[str, Any]
) -> GenerationConfig:
    """Greedy unless `generation` samples, stopping where the model does, and nothing in between.

    A model's own repetition penalty or temperature must not slip into a measurement.
    """
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


def prompt_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Ids of a plain text that a model shall continue: the beginning of a document.

    It stands after the beginning-of-text token where there is one. Special tokens stay text.
    """
    ids = list(tokenizer(text, add_special_tokens=True, split_special_tokens=True)["input_ids"])
    start = tokenizer.bos_token_id
    return ids if start is None or ids[:1] == [start] else [start, *ids]


def nats(
    model: PreTrainedModel,
    passages: Sequence[tuple[Sequence[int], Sequence[int]]],
    label: str = "likelihood",
) -> list[float]:
    """Summed -ln p of the scored tokens of each passage (ids, scored), every one given all before.

    The first token of a passage is given only. What is longer than the model's context is read in
    windows that overlap by half, each token scored once, with at least half a context before it.
    """
    context = context_length(model)
    windows = [
        (number, ids, scored)
        for number, passage in enumerate(passages)
        for ids, scored in _windows(*passage, context)
    ]
    windows.sort(key=lambda window: (len(window[1]), window[0]))
    totals = [0.0] * len(passages)
    model.eval()
    start = 0
    with Progress(label, len(windows), "texts") as progress, torch.inference_mode():
        while start < len(windows):
            width = len(windows[min(start + 127, len(windows) - 1)][1])
            size = min(128, max(1, LOGITS // (width * model.config.get_text_config().vocab_size)))
            batch = windows[start : start + size]
            found = _batch_nats(model, [(ids, scored) for _, ids, scored in batch])
            for (number, _, _), value in zip(batch, found, strict=True):
                totals[number] += value
            start += len(batch)
            progress.update(len(batch))
    return totals


def _windows(
    ids: Sequence[int], scored: Sequence[int], context: int
) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """The passage in windows of at most `context` tokens; every scored token counts in one."""
    yield ids[:context], [0, *scored[1:context]]
    step = max(context // 2, 1)
    for done in range(context, len(ids), step):
        end = min(done + step, len(ids))
        begin = max(end - context, 0)
        yield ids[begin:end], [0] * (done - begin) + list(scored[done:end])


def _batch_nats(
    model: PreTrainedModel, rows: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> list[float]:
    """-ln p of each row's scored tokens, summed in float64."""
    width = max(len(ids) for ids, _ in rows)
    # Padding stands on the right, where causal attention never sees it.
    ids = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids, _ in rows])
    weight = torch.tensor([[*mask, *[0] * (width - len(mask))] for _, mask in rows])
    ids, weight = ids.to(model.device), weight.to(model.device)
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, :-1]
    loss = torch.nn.functional.cross_entropy(
        logits.float().transpose(1, 2), ids[:, 1:], reduction="none"
    )
    return (loss.double() * weight[:, 1:]).sum(1).tolist()
