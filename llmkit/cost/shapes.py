"""A model's sizes and its exact number of parameters, from the keys of its configuration alone.

Formulas of transformers' `modeling_gpt2.py` and `modeling_llama.py` (with what Mistral and Qwen
change in it); other families have no formula here, and `shape_of` says None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LLAMAS = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a decoder.

    Attributes:
        width: of the residual stream; `attention_width` of all query heads together, and
            `key_width` of all key heads.
        inner: width of the feed-forward layer.
        positions: rows of a learned position embedding, 0 for rotary ones.
        context: tokens that the model can look at.
        tied: the head is the embedding.
        gated: the feed-forward layer has three matrices instead of two.
        layer_extras: parameters of a layer's norms and biases.
        last_norm: parameters of the norm before the head.
        dropout: whether any dropout is on, which saves a mask for the backward pass.
    """

    model_type: str
    layers: int
    width: int
    heads: int
    attention_width: int
    key_width: int
    inner: int
    vocabulary: int
    positions: int
    context: int
    tied: bool
    gated: bool
    layer_extras: int
    last_norm: int
    dropout: bool = False

    @property
    def layer_matrices(self) -> int:
        """Parameters of a layer's matrices."""
        attention = 2 * self.width * (self.attention_width + self.key_width)
        return attention + (3 if self.gated else 2) * self.width * self.inner

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.width

    @property
    def position_embedding(self) -> int:
        return self.positions * self.width

    @property
    def parameters(self) -> int:
        """All of them; a tied head counts once."""
        layers = self.layers * (self.layer_matrices + self.layer_extras)
        embeddings = self.embedding * (1 if self.tied else 2) + self.position_embedding
        return layers + embeddings + self.last_norm

    @property
    def hidden_matrices(self) -> int:
        """Parameters that Muon takes."""
        return self.layers * self.layer_matrices


def shape_of(config: Mapping[str, Any]) -> Shape | None:
    """The shape of a configuration whose defaults are filled in; None for another family.

    Args:
        config: keys by transformers' names, `model_type` among them.
    """
    if config.get("model_type") == "gpt2":
        return gpt2(config)
    if config.get("model_type") in LLAMAS:
        return llama(config)
    return None


def gpt2(config: Mapping[str, Any]) -> Shape:
    """GPT-2's, by its own keys."""
    width = config["n_embd"]
    inner = config.get("n_inner") or 4 * width
    biases = 3 * width + width + inner + width
    return Shape(
        model_type="gpt2",
        layers=config["n_layer"],
        width=width,
        heads=config["n_head"],
        attention_width=width,
        key_width=width,
        inner=inner,
        vocabulary=config["vocab_size"],
        positions=config["n_positions"],
        context=config["n_positions"],
        tied=config.get("tie_word_embeddings", True),
        gated=False,
        layer_extras=biases + 4 * width,
        last_norm=2 * width,
        dropout=any(config.get(f"{part}_pdrop") for part in ("resid", "embd", "attn")),
    )


def llama(config: Mapping[str, Any]) -> Shape:
    """That of Llama and its like, by their keys."""
    kind, width, heads = config["model_type"], config["hidden_size"], config["num_attention_heads"]
    head_width = config.get("head_dim") or width // heads
    keys = head_width * (config.get("num_key_value_heads") or heads)
    queries, inner = head_width * heads, config["intermediate_size"]
    norms = 2 * width + (2 * head_width if kind == "qwen3" else 0)
    biases = queries + 2 * keys if kind == "qwen2" or config.get("attention_bias") else 0
    biases += width if config.get("attention_bias") and kind != "qwen2" else 0
    biases += 2 * inner + width if config.get("mlp_bias") else 0
    return Shape(
        model_type=kind,
        layers=config["num_hidden_layers"],
        width=width,
        heads=heads,
        attention_width=queries,
        key_width=keys,
        inner=inner,
        vocabulary=config["vocab_size"],
        positions=0,
        context=config["max_position_embeddings"],
        tied=config.get("tie_word_embeddings", False),
        gated=True,
        layer_extras=norms + biases,
        last_norm=width,
        dropout=bool(config.get("attention_dropout")),
    )
