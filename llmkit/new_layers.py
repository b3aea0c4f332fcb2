"""Layers put on top of a trained transformer, to judge what it foresees.

A language model of few layers spends all of them on foreseeing the next token: none is left above
to compare what it foresaw with what was written. New layers can, and they leave the model below as
it is. Each begins as a copy of one of the model's last layers, whose attention knows where to look,
with its output projections zero: it adds nothing, and training starts from what the model knows.
This is the block expansion of LLaMA Pro, https://arxiv.org/abs/2401.02415, with the copies on top
instead of in between.
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


def add_layers(model: PreTrainedModel, count: int, where: str) -> None:
    """Put copies of the last `count` layers on top of `model`'s body; freeze those below.

    More than the model has are copied in rounds. What the model gives stays the same until it is
    trained. Trained are the new layers, the norm above them, and whatever is no part of the body (a
    head).

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
    own = list(layers)
    for number in range(count):
        source = own[(number - count) % len(own)]
        layers.append(_copy(model, source, len(layers), parts.outputs))
    model.config.num_hidden_layers = len(layers)
    body.get_submodule(parts.norm).requires_grad_(True)


def _copy(
    model: PreTrainedModel, source: nn.Module, index: int, outputs: tuple[str, str]
) -> nn.Module:
    """A layer with the weights of `source` that adds nothing yet."""
    layer: nn.Module = type(source)(model.config, layer_idx=index)
    layer.load_state_dict(source.state_dict())
    with torch.no_grad():
        for name in outputs:
            for parameter in layer.get_submodule(name).parameters():
                parameter.zero_()
    weight = next(source.parameters())
    return layer.to(device=weight.device, dtype=weight.dtype).train(source.training)
