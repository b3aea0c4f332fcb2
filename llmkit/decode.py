"""Prompts to completions, texts to their likelihood; repeatable.

GPT-2-type models are decoded by llmkit's own loop (`llmkit/decoding/`), which saves most of
what transformers' `generate` spends around the layers; everything else is decoded by `generate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from llmkit.decoding.loop import Decoded as Decoded
from llmkit.decoding.loop import decode
from llmkit.decoding.stock import all_tokens_given as all_tokens_given
from llmkit.decoding.stock import generate
from llmkit.decoding.support import bare, tell_once, why_not
from llmkit.decoding.support import supports as supports
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
    """Continue each prompt (ids): greedy unless `generation` samples.

    Returns, in the order of the prompts, the new ids without the stop token, and whether the
    model stopped by itself. Prompts of like length share a batch. The same arguments give the
    same answers. In our own loop a prompt draws with numbers that `seed`, its place among the
    prompts and `max_new_tokens` fix: another `batch_size` gives the same answers up to rounding.
    Raises InputError for a prompt that leaves no room for `max_new_tokens`.
    """
    config = generation_config(model, tokenizer, generation or {})
    _check_room(prompts, config.max_new_tokens, context_length(model))
    ours, uniforms = _ours(model, config), None
    if ours:
        uniforms = _uniforms(len(prompts), config, torch.Generator().manual_seed(seed))
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    results: list[tuple[list[int], bool]] = [([], False)] * len(prompts)
    progress = Progress(label, len(prompts), "prompts")
    with _seeded(model, seed), _evaluating(model), progress:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            rows = [prompts[i] for i in batch]
            if ours:
                drawn = None if uniforms is None else uniforms[batch]
                found = decode(bare(model), rows, config, drawn)
            else:
                found = generate(model, rows, config)
            for index, ids, ended in zip(batch, found.ids, found.ended, strict=True):
                results[index] = (ids[:-1] if ended else ids, ended)
            progress.update(len(batch))
    return results


def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    generator: torch.Generator | None = None,
    log_probabilities: bool = False,
) -> Decoded:
    """Continue `prompts` (ids) as one batch by what `config` alone says; for rollouts.

    What `config` leaves open is neutral: no stop token, all of the vocabulary. Random numbers come
    from `generator`, or from torch's global one: one for each prompt and new token in our loop,
    where a row's draws do not depend on the rows beside it.

    A log-probability is ln softmax(logits / temperature) of the token that was taken, in float32,
    over the whole vocabulary: `top_k`, `top_p` and `min_p` narrow what is drawn, not what is
    reported. For greedy decoding the temperature is 1. Dropout is off, and the mode of `model`
    is as before afterwards.

    Computed in the precision of the weights, or of the autocast around the call.

    Raises:
        InputError: a prompt is empty or leaves no room, or the logits are not finite.
        UserError: log-probabilities of beams, or several completions of a prompt.
    """
    if not prompts:
        return Decoded([], [], [] if log_probabilities else None)
    ours = _ours(model, config)
    if config.max_new_tokens is not None:
        _check_room(prompts, config.max_new_tokens, context_length(model))
    with _evaluating(model):
        if ours:
            uniforms = _uniforms(len(prompts), config, generator)
            return decode(bare(model), prompts, config, uniforms, log_probabilities)
        if generator is None:
            return generate(model, prompts, config, log_probabilities)
        seed = torch.randint(2**62, (), generator=generator, device=generator.device)
        with _seeded(model, int(seed)):
            return generate(model, prompts, config, log_probabilities)


def _ours(model: Any, config: GenerationConfig) -> bool:
    """Whether our loop decodes this; if not, the log says once why."""
    if reason := why_not(model, config):
        tell_once(reason)
    return not reason


def _uniforms(
    size: int, config: GenerationConfig, generator: torch.Generator | None
) -> torch.Tensor | None:
    """(B, T) numbers from [0, 1); None for greedy decoding."""
    if not config.do_sample:
        return None
    device = "cpu" if generator is None else generator.device
    return torch.rand(size, config.max_new_tokens, generator=generator, device=device)


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Every module in evaluation mode, and afterwards in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _seeded(model: Any, seed: int) -> Iterator[None]:
    """torch's global random numbers from `seed`, and afterwards as they were."""
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


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
