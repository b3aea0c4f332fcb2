"""What is wrong with the keys of a model's configuration, before anything runs.

Names and types are checked by then (`llmkit.build`); here it is what they say. Imports nothing
heavy: a recipe check reads it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from llmkit.errors import Problem
from llmkit.fields import config_fields, model_types
from llmkit.stage import Facts

HEADS, SHARED = "num_attention_heads", "num_key_value_heads"
LATENT = "kv_lora_rank"  # of models whose attention never reads the count of shared heads
POSITIONS = ("n_positions", "max_position_embeddings")  # GPT-2's name and everybody else's
WIDTHS = (("n_embd", 768, "n_head", 12), ("hidden_size", None, "num_attention_heads", None))
# Without one of them there is no model, though transformers makes one and trains it.
COUNTS = (
    "vocab_size",
    *POSITIONS,
    "n_layer",
    "n_head",
    "n_embd",
    "n_inner",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
)
SMALL = ("initializer_range", "layer_norm_epsilon", "layer_norm_eps", "rms_norm_eps", "norm_eps")
DTYPES = ("dtype", "torch_dtype")
# Beside weights that are trained already: dropout, and what else only the training reads.
FREE = (
    "model_type",  # it tells which keys there are, and must be the model's own
    "use_cache",
    "output_router_logits",
    "router_aux_loss_coef",
    "router_jitter_noise",
)


def config_problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Figures that no model can have, or with which it trains in silence and learns nothing."""
    for key, value in config.items():
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            continue
        if key in DTYPES and value != "float32":
            remedy = "leave it out; args.bf16 computes in bfloat16, args.fp16 in float16"
            yield Problem(("config", key), f"{value}: weights are trained in float32", remedy)
        elif isinstance(value, str):
            continue
        elif key in COUNTS and value <= 0:
            yield Problem(("config", key), f"{value} is not positive")
        elif is_dropout(key) and not 0 <= value < 1:
            yield Problem(("config", key), f"{value} is no share from 0 up and below 1")
        elif key in SMALL and not 0 <= value < math.inf:
            yield Problem(("config", key), f"{value} is no number from 0 up")


def is_dropout(key: str) -> bool:
    """`resid_pdrop`, `attention_dropout`, `hidden_dropout_prob`, `layerdrop`."""
    return "drop" in key


def vocabulary_problems(
    config: Mapping[str, Any], tokenizer: Facts, shards: Facts, names: tuple[str | None, str | None]
) -> Iterator[Problem]:
    """Where model, tokenizer and shards do not speak of the same tokens; `names` are the stages."""
    wanted, known = config.get("vocab_size"), tokenizer.vocab_size
    if wanted is not None and known is not None and wanted < known:
        yield Problem(
            ("config", "vocab_size"),
            f"{wanted:,} is below the tokenizer's {known:,}",
            "leave it out: the tokenizer says it",
        )
    if known is not None and shards.vocab_size is not None and shards.vocab_size != known:
        yield Problem(
            ("shards",),
            f"{names[1]} was made with {shards.vocab_size:,} tokens, and the tokenizer "
            f"{names[0]} has {known:,}",
            "name the tokenizer that the shards were made with",
        )


def shape_problems(config: Mapping[str, Any], shards: Facts) -> Iterator[Problem]:
    """Positions that the shards' rows do not fit in, and heads that do not come out even."""
    key = next((key for key in POSITIONS if key in config), None)
    if key is not None and config[key] < (shards.context_length or 0):
        yield Problem(
            ("config", key),
            f"{config[key]} is below the shards' context_length {shards.context_length}",
            "leave it out, or lower context_length of the tokenize stage",
        )
    for width_key, width_default, heads_key, heads_default in WIDTHS:
        gpt2 = config.get("model_type", "gpt2") == "gpt2"
        width = config.get(width_key, width_default if gpt2 else None)
        heads = config.get(heads_key, heads_default if gpt2 else None)
        positive = (width or 0) > 0 and (heads or 0) > 0
        if positive and "head_dim" not in config and width % heads:
            yield Problem(
                ("config", width_key),
                f"{width} is no multiple of {heads_key} {heads}",
                f"try {math.ceil(width / heads) * heads}",
            )
    yield from head_problems(config)


def head_problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Query heads that do not come in equal groups, one for each head of keys and values."""
    model_type = config.get("model_type", "gpt2")
    kinds = config_fields(model_type) if model_type in model_types() else {}
    if HEADS not in kinds or SHARED not in kinds or LATENT in kinds:
        return
    heads, shared = (config.get(key, kinds[key].default) for key in (HEADS, SHARED))
    if not all(type(count) is int and count > 0 for count in (heads, shared)):
        return
    if heads % shared:
        fits = max(count for count in range(1, min(heads, shared) + 1) if heads % count == 0)
        if SHARED in config:
            what = f"{shared} does not divide {HEADS} {heads}"
            yield Problem(("config", SHARED), what, f"try {fits}")
        else:
            what = f"{heads} is no multiple of {SHARED}, which {model_type} sets to {shared}"
            yield Problem(("config", HEADS), what, f"give {SHARED} too: {fits}, say")


def model_problems(
    model: str, config: Mapping[str, Any], base: Facts, shards: Facts
) -> Iterator[Problem]:
    """What a model that training begins with makes impossible."""
    settled = [key for key in config if key not in FREE and not is_dropout(key)]
    for key in settled:
        yield Problem(("config", key), f"is what {model} is already", "leave it out")
    yield from config_problems({key: config[key] for key in config if key not in settled})
    room, asked = base.context_length, shards.context_length
    if room is not None and asked is not None and asked > room:
        remedy = f"lower context_length of the tokenize stage to {room} or below"
        yield Problem(("model",), f"{model} holds {room} tokens, and a row has {asked}", remedy)
