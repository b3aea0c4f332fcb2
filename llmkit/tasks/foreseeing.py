"""Shows a model a task's texts, and measures how well it foresees them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from llmkit.errors import InputError
from llmkit.tasks.task import Passage

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def foreseen(
    passages: Iterable[Passage], model: PreTrainedModel, label: str
) -> dict[str, dict[str, float]]:
    """`bits_per_byte` and `nats_per_token` as {value, low, high, n}.

    Raises:
        InputError: fewer than two texts have anything to foresee.
    """
    from llmkit.decode import nats
    from llmkit.metrics.likelihood import BitsPerByte, NatsPerToken

    shown = [passage for passage in passages if passage.num_bytes and any(passage.scored[1:])]
    if len(shown) < 2:
        raise InputError(label, f"{len(shown)} texts have no interval", "give it two or more")
    found = nats(model, [(p.ids, p.scored) for p in shown], label)
    num_tokens = [sum(p.scored[1:]) for p in shown]
    num_bytes = [p.num_bytes for p in shown]
    return {
        "bits_per_byte": BitsPerByte().compute(nats=found, num_bytes=num_bytes),
        "nats_per_token": NatsPerToken().compute(nats=found, num_tokens=num_tokens),
    }
