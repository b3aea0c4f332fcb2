"""Layers put on top of a trained transformer, to judge what it foresees.

A language model of few layers spends all of them on foreseeing the next token: none is left above
to compare what it foresaw with what was written. New layers can, and they leave the model below as
it is. They begin as the identity, their output projections being zero, so that training starts from
what the model knows (adapters begin near it for the same reason, https://arxiv.org/abs/1902.00751).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from llmkit.errors import UserError


@dataclass(frozen=True)
class Parts:
    """Where an architecture keeps its layers, the norm above them, and what a layer adds."""

    layers: str
    norm: str
    outputs: tuple[str, str]  # the linear maps, of attention and MLP, that end in the residual


PARTS = {
    "gpt2": Parts("h", "ln_f", ("attn.c_proj", "mlp.c_proj")),
    "llama": Parts("layers", "norm", ("self_attn.o_proj", "mlp.down_proj")),
}


def add_layers(model: PreTrainedModel, count: int, seed: int, where: str) -> None:
    """Put `count` layers, drawn from `seed`, on top of `model`'s body; freeze those below.

    What the model gives stays the same until it is trained. Trained are the new layers, the norm
    above them, and whatever is no part of the body (a head).

    Raises:
        UserError: it is not known where this architecture keeps its layers; `where` is the key of
            the recipe that asked, for the error to begin with.
    """
    parts = PARTS.get(model.config.model_type)
    if parts is None:
        what = f"a {model.config.model_type} model takes no new layers here"
        raise UserError(where, what, f"leave it out, or take one of {', '.join(PARTS)}")
    body: nn.Module = model.base_model
    body.requires_grad_(False)
    layers = body.get_submodule(parts.layers)
    assert isinstance(layers, nn.ModuleList)
    with torch.random.fork_rng(devices=[]):  # drawn on the CPU
        torch.manual_seed(seed)
        for _ in range(count):
            layers.append(_fresh(model, layers[0], len(layers), parts.outputs))
    model.config.num_hidden_layers = len(layers)
    body.get_submodule(parts.norm).requires_grad_(True)


def _fresh(
    model: PreTrainedModel, like: nn.Module, index: int, outputs: tuple[str, str]
) -> nn.Module:
    """A layer as transformers draws it, that adds nothing yet."""
    layer: nn.Module = type(like)(model.config, layer_idx=index)
    layer.apply(model._init_weights)
    with torch.no_grad():
        for name in outputs:
            for parameter in layer.get_submodule(name).parameters():
                parameter.zero_()
    weight = next(like.parameters())
    return layer.to(device=weight.device, dtype=weight.dtype).train(like.training)
