"""What held-out pairs say of a reward, or of a policy's implicit one.

A pair is right where the chosen answer's score is above the rejected one's; equal scores count
half, as a guess would. The yardstick beside it knows nothing but the answers' lengths: whichever
of "the shorter wins" and "the longer wins" holds more often on the training pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmkit.metrics.intervals import mean, wilson

if TYPE_CHECKING:
    from llmkit.data.chat.preferences import Pair


def right(margins: Sequence[float]) -> float:
    """How many margins (chosen minus rejected) are above zero, those at zero counted half."""
    return sum(1.0 if margin > 0 else 0.5 if margin == 0 else 0.0 for margin in margins)


def accuracy_figures(margins: Sequence[float], pairs: Sequence[Pair]) -> dict[str, Any]:
    """Accuracy with its interval, the mean margin, and the accuracy of each kind of pair."""
    whole = wilson(right(margins), len(margins))
    figures: dict[str, Any] = {
        "accuracy": whole.value,
        "accuracy_low": whole.low,
        "accuracy_high": whole.high,
        "mean_margin": mean(margins).value,
    }
    by_kind: dict[str, list[float]] = {}
    for margin, pair in zip(margins, pairs, strict=True):
        by_kind.setdefault(pair.kind, []).append(margin)
    if set(by_kind) != {""}:
        figures["accuracy_by_kind"] = {
            kind: wilson(right(some), len(some)).as_dict() for kind, some in sorted(by_kind.items())
        }
    return figures


def length_baseline(train: Sequence[Pair], held_out: Sequence[Pair]) -> dict[str, Any]:
    """The accuracy of judging by characters alone, by the rule that suits the training pairs."""
    shorter = right([surplus(pair) for pair in train]) >= len(train) / 2
    sign = 1 if shorter else -1
    found = wilson(right([sign * surplus(pair) for pair in held_out]), len(held_out))
    return {
        "length_baseline": found.value,
        "length_baseline_low": found.low,
        "length_baseline_high": found.high,
        "length_rule": "shorter wins" if shorter else "longer wins",
    }


def surplus(pair: Pair) -> int:
    """By how many characters the rejected answer is longer."""
    return len(pair.rejected) - len(pair.chosen)
