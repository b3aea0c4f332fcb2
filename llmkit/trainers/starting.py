"""The model that a pretraining begins with: a fresh one, or one that is trained already."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    set_seed,
)

from llmkit.data.tokens.bpe import num_ids
from llmkit.errors import InputError, UserError
from llmkit.fields import config_fields
from llmkit.model import context_length, load_model
from llmkit.trainers.launch import spread_by
from llmkit.trainers.refusals import refused

CHANGE = "change these keys"
REMEDY = "encode the documents with the model's own tokenizer: name its folder in `tokenizer:`"


def model_to_go_on_with(
    source: Path | str,
    revision: str | None,
    config: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerFast,
    length: int,
    name: str,
) -> PreTrainedModel:
    """A trained model, its vocabulary grown to the tokenizer's where that has ids of its own more.

    Args:
        source: a folder or a Hub id.
        config: keys that change how it is trained, such as dropout.
        tokenizer: that the shards were made with.
        length: of the shards' rows.
        name: of the stage, for the errors.

    Raises:
        InputError: there is no such model, its context is shorter than a row, or its tokens are not
            the tokenizer's.
        UserError: transformers refuses `config`.
    """
    check_tokens(source, revision, tokenizer, f"{name}.model")
    init = {"config": changed(source, revision, config, name)} if config else {}
    model = load_model(source, revision, **init)
    if length > context_length(model):
        what = f"holds {context_length(model)} tokens, and a row of the shards has {length}"
        remedy = "lower context_length of the tokenize stage"
        raise InputError(f"{name}.model: {source}", what, remedy)
    grow(model, num_ids(tokenizer))
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.config, key, getattr(tokenizer, key))
        setattr(model.generation_config, key, getattr(tokenizer, key))
    return model


def fresh_config(keys: Mapping[str, Any], name: str) -> PreTrainedConfig:
    """The configuration of a fresh model; `model_type` among the keys. Raises UserError."""
    given = dict(keys)
    kind = given.pop("model_type")
    with refused(f"{name}.config", "transformers", CHANGE):
        return AutoConfig.for_model(kind, **numbers(given, kind))


def fresh_model(keys: Mapping[str, Any], seed: int, name: str) -> PreTrainedModel:
    """Random weights, float32. Raises UserError, naming the stage, where transformers refuses."""
    config = fresh_config(keys, name)
    set_seed(seed)
    with refused(f"{name}.config", "transformers", CHANGE):
        return AutoModelForCausalLM.from_config(config)


def check_buildable(keys: Mapping[str, Any], name: str) -> None:
    """Build the model without memory for its weights: what would stop its stage is told now.

    Not where DeepSpeed has its hands in how a model is built: there its stage tells.
    """
    config = fresh_config(keys, name)
    if spread_by(os.environ) == "DEEPSPEED":
        return
    with refused(f"{name}.config", "transformers", CHANGE), torch.device("meta"):
        AutoModelForCausalLM.from_config(config)


def numbers(keys: Mapping[str, Any], model_type: str | None) -> dict[str, Any]:
    """`layer_norm_epsilon: 1` as 1.0: transformers takes no whole number where a field is a float.

    A recipe may write one, as YAML and everything else here understands it.
    """
    fields = config_fields(model_type or "gpt2")
    return {
        key: float(value) if type(value) is int and key in fields and fields[key].real else value
        for key, value in keys.items()
    }


def grow(model: PreTrainedModel, wanted: int) -> None:
    """Rows for ids that the model has none for, each the mean of its rows: the likeliest guess."""
    known = model.config.vocab_size
    if wanted <= known:
        return
    model.resize_token_embeddings(wanted, mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[known:] = layer.weight[:known].mean(0)  # a tied one twice, to no harm


def changed(source: Path | str, revision: str | None, config: Mapping[str, Any], name: str) -> Any:
    """The model's own configuration with the recipe's keys over it.

    Raises:
        UserError: `model_type` is another than the model's, or transformers refuses a key.
    """
    given = dict(config)
    asked = given.pop("model_type", None)
    with refused(f"{name}.config", "transformers", CHANGE):
        own = AutoConfig.from_pretrained(
            source, revision=revision or "main", **numbers(given, asked)
        )
    if asked not in (None, own.model_type):
        what = f"{source} is {own.model_type}"
        raise UserError(f"{name}.config.model_type", what, f"say {own.model_type}")
    return own


def check_tokens(
    source: Path | str, revision: str | None, tokenizer: PreTrainedTokenizerFast, where: str
) -> None:
    """The tokens that the model knows mean the same ids in `tokenizer`.

    A model without a tokenizer (OpenAI's weights alone) is believed; its first loss tells.

    Raises:
        InputError: an id is another token, or none.
    """
    try:
        own = AutoTokenizer.from_pretrained(source, revision=revision or "main")
    except (OSError, ValueError):
        return
    # Without files of a tokenizer, transformers makes one that knows its special tokens alone.
    if set(own.get_vocab()) <= set(own.all_special_tokens):
        return
    theirs = tokenizer.get_vocab()
    for token, number in own.get_vocab().items():
        if theirs.get(token, number) != number or token not in theirs and number < len(theirs):
            other = tokenizer.convert_ids_to_tokens(number)
            what = f"its token {number} is {token!r}, and the shards' tokenizer says {other!r}"
            raise InputError(f"{where}: {source}", what, REMEDY)


def from_tokenizer(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """The configuration keys that a tokenizer decides; tokens that it lacks are None.

    GPT-2's own defaults (50,256) would lie outside a small vocabulary.
    """
    return {
        "vocab_size": num_ids(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
