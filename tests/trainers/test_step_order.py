"""Every row once an epoch, the same rows in each update as an unsorted shuffle, long ones first."""

from __future__ import annotations

import torch

from llmkit.trainers.step_order import StepOrder

LENGTHS = [7, 3, 9, 1, 5, 8, 2, 6, 4, 10]


def steps(order: StepOrder) -> list[list[int]]:
    rows = list(order)
    return [rows[i : i + order.rows_per_step] for i in range(0, len(rows), order.rows_per_step)]


def test_updates_hold_the_rows_of_a_plain_shuffle() -> None:
    plain = torch.randperm(10, generator=torch.Generator().manual_seed(5)).tolist()
    found = steps(StepOrder(LENGTHS, 4, seed=5))
    assert [set(step) for step in found] == [set(plain[:4]), set(plain[4:8]), set(plain[8:])]
    for step in found:
        assert [LENGTHS[i] for i in step] == sorted((LENGTHS[i] for i in step), reverse=True)


def test_epochs_differ_and_can_be_returned_to() -> None:
    order = StepOrder(LENGTHS, 4, seed=5)
    first = list(order)
    order.set_epoch(1)
    second = list(order)
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    order.set_epoch(0)
    assert list(order) == first
