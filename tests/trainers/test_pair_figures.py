"""Accuracy and the length baseline on pairs counted by hand."""

from __future__ import annotations

import pytest

from llmkit.data.chat.preferences import Pair
from llmkit.metrics.intervals import wilson
from llmkit.trainers.pair_figures import accuracy_figures, length_baseline, right


def pair(chosen: int, rejected: int, kind: str = "") -> Pair:
    """Answers of so many characters."""
    return Pair([{"role": "user", "content": "?"}], "a" * chosen, "b" * rejected, kind)


def test_equal_scores_count_half() -> None:
    assert right([2.0, -1.0, 0.0, 0.5]) == 2.5
    assert right([]) == 0


def test_accuracy_by_kind() -> None:
    margins = [1.0, -1.0, 2.0, 0.0]
    pairs = [pair(1, 1, "b"), pair(1, 1, "b"), pair(1, 1, "a"), pair(1, 1)]
    figures = accuracy_figures(margins, pairs)
    assert figures["accuracy"] == 2.5 / 4 and figures["mean_margin"] == 0.5
    # Wilson by hand: z = 1.959964, p = 0.625, n = 4.
    assert figures["accuracy_low"] == pytest.approx(0.2194, abs=1e-4)
    assert figures["accuracy_high"] == pytest.approx(0.9081, abs=1e-4)
    by_kind = figures["accuracy_by_kind"]
    assert list(by_kind) == ["", "a", "b"]
    assert [by_kind[kind]["value"] for kind in by_kind] == [0.5, 1.0, 0.5]
    assert by_kind["b"] == wilson(1, 2).as_dict()
    assert "accuracy_by_kind" not in accuracy_figures([1.0, 1.0], [pair(1, 1)] * 2)


def test_the_length_rule_is_chosen_on_training_pairs_alone() -> None:
    train = [pair(3, 5), pair(2, 9), pair(7, 4)]  # the shorter wins in 2 of 3
    held_out = [pair(1, 2), pair(5, 3), pair(6, 3), pair(4, 4)]  # and here in 1.5 of 4
    figures = length_baseline(train, held_out)
    assert figures["length_rule"] == "shorter wins" and figures["length_baseline"] == 1.5 / 4
    assert figures["length_baseline_low"] == wilson(1.5, 4).low
    longer = length_baseline([pair(9, 1), pair(8, 1), pair(1, 2)], held_out)
    assert longer["length_rule"] == "longer wins" and longer["length_baseline"] == 2.5 / 4
