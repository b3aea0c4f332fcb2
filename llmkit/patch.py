"""Patches that make a stock transformers model fast without changing what it computes or saves.

A patch is a loan: bound on instances, with the same signature and no state, and given back when
the block ends, whatever happened in it. Each patch is a function `loans(model) -> [Loan, ...]`
(`llmkit/patches/loan.py`) that raises UserError where it does not fit, in a file of
`llmkit/patches/`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from llmkit.errors import UserError

if TYPE_CHECKING:
    from torch import nn

Model = TypeVar("Model", bound="nn.Module")

PATCHES = {
    "attention": "llmkit.patches.attention:loans",
    "layer_norm": "llmkit.patches.layer_norm:loans",
    "gelu": "llmkit.patches.gelu:loans",
    "fused_head_loss": "llmkit.patches.fused_head_loss:loans",
}

# What `auto` picks, by the type of the device that the model lies on. A row is here because it was
# measured faster at every size tried (benchmarks/README.md), or says from where it is believed.
AUTOMATIC = {
    "cpu": ("attention", "layer_norm", "gelu", "fused_head_loss"),
    # Not measured by us yet (`python -m benchmarks.gpu` does). transformers #40048 reports 7.65
    # times for GELU's operation on a GPU; #48925 what a dense mask costs under torch.compile; the
    # logits of 64 x 1,024 tokens alone are 13 GB in float32.
    "cuda": ("attention", "gelu", "fused_head_loss"),
}

# Head and loss of our own, and batches without padding.
FOR_PRETRAINING = ("attention", "fused_head_loss")


@contextmanager
def patched(model: Model, names: str | Sequence[str] = "auto") -> Iterator[Model]:
    """Lend `model` the patches `names` ("auto", "none", or a list of names of PATCHES).

    When the block ends, every module's `forward` and every setting that a patch changed is exactly
    what it was when the block began, also where another library has bound its own on top
    meanwhile. All patches are checked before one is bound; UserError names an unknown one, or one
    that does not fit this model.
    """
    loans = [loan for name in choose(model, names) for loan in _load(name)(model)]
    with ExitStack() as stack:
        for loan in loans:
            stack.enter_context(loan.lent())
        yield model


def choose(model: nn.Module, names: str | Sequence[str]) -> list[str]:
    """The patches that `names` asks for on this model, in the order of PATCHES."""
    if names == "auto":
        return automatic_patches(model)
    if names == "none":
        return []
    asked = check_names(names)
    return [name for name in PATCHES if name in asked]


def check_names(names: str | Sequence[str]) -> list[str]:
    """`names` as a list of known patches, each once; UserError otherwise. Needs no torch."""
    if isinstance(names, str):
        remedy = f"write [{names}]" if names in PATCHES else _meant(names, ["auto", "none"])
        raise UserError("patches", f"{names!r} is neither auto, none nor a list of names", remedy)
    if not isinstance(names, Sequence):
        what = f"{names!r} is neither auto, none nor a list of names"
        raise UserError("patches", what, f"write {list(AUTOMATIC['cpu'])}, or some of these")
    for position, name in enumerate(names):
        if name not in PATCHES:
            raise UserError("patches", f"no patch is called {name!r}", _meant(name, list(PATCHES)))
        if name in names[:position]:
            raise UserError("patches", f"{name} stands there twice", "name it once")
    return list(names)


def automatic_patches(model: nn.Module, *, own_loss: bool = True) -> list[str]:
    """The patches that measurably help this model where it lies now.

    `own_loss=False` leaves out FOR_PRETRAINING, for a trainer (TRL's) that binds its own head and
    loss and gives each batch a mask. A patch that does not fit this kind of model is left out.
    """
    device = next((parameter.device.type for parameter in model.parameters()), "")
    names = []
    for name in AUTOMATIC.get(device, ()):
        if name in FOR_PRETRAINING and not own_loss:
            continue
        try:
            _load(name)(model)
        except UserError:  # what `auto` means: only what fits
            continue
        names.append(name)
    return names


def _load(name: str) -> Any:
    module, _, attribute = PATCHES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def _meant(name: object, known: list[str]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}"
