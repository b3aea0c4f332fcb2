"""What a policy's forward pass needs so that log-probabilities are right, and the same twice."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from peft import PeftModel
from torch import Tensor, nn
from trl.trainer.utils import disable_dropout_in_model


def without_dropout(model: nn.Module) -> None:
    """Probability 0 wherever `model` drops out, its configuration left as it is."""
    disable_dropout_in_model(model)
    for module in model.modules():
        if "attention_dropout" in vars(module):  # Llama and its kin keep a number
            module.attention_dropout = 0.0


def takes_positions(model: Any) -> bool:
    """Whether the model's forward can be told where each token stands."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return "position_ids" in inspect.signature(type(base).forward).parameters


def with_positions(model: Callable[..., Any]) -> Callable[..., Any]:
    """`model`, called with the position that each token has without the padding before it."""

    def forward(*, attention_mask: Tensor, **inputs: Any) -> Any:
        positions = (attention_mask.long().cumsum(1) - 1).clamp(min=0)
        return model(attention_mask=attention_mask, position_ids=positions, **inputs)

    return forward
