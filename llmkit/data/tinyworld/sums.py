"""Sums, their working in words, and the operand pairs that no training text holds.

`27 + 45` is worked out column by column from the right, with the carry in front:
`7 + 5 = 12, 1 + 2 + 4 = 7, so 72.` (A column's carry goes on; its last digit stays.)
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from llmkit.data.tinyworld.world import World


def is_held_out(world: World, a: int, b: int) -> bool:
    """Whether the pair, in either order, is kept from training.

    Pairs of single digits never are: they stand in the working of every other sum.
    """
    low, high = sorted((a, b))
    return high > 9 and world.holds_out(f"sum:{low}+{high}")


def operands(world: World, rng: Random, held_out: bool) -> tuple[int, int]:
    """A pair to train on, or a held-out one; one operand in ten is short on purpose."""
    while True:
        a, b = _operand(world, rng), _operand(world, rng)
        if is_held_out(world, a, b) == held_out:
            return a, b


def _operand(world: World, rng: Random) -> int:
    digits = world.sum_digits if rng.random() < 0.9 else 1 + int(rng.random() * world.sum_digits)
    return 1 + int(rng.random() * (10**digits - 1))


@dataclass(frozen=True, slots=True)
class Slip:
    """A mistake in one column of a working: its total is `off`, or its carry is turned round
    (one that is there is forgotten, one that is not is added). What follows from it is right."""

    column: int  # from the right, from 0
    off: int = 0
    carry: bool = False


def worked(a: int, b: int, slip: Slip | None = None) -> str:
    """The working of `a + b`: `worked(27, 45) == "7 + 5 = 12, 1 + 2 + 4 = 7, so 72."`"""
    columns: list[str] = []
    carry = result = 0
    left, right = a, b
    while left or right or not columns:
        x, y, off = left % 10, right % 10, 0
        if slip is not None and slip.column == len(columns):
            carry, off = carry ^ slip.carry, slip.off
        total = carry + x + y + off
        result += total % 10 * 10 ** len(columns)
        columns.append(f"{'1 + ' if carry else ''}{x} + {y} = {total}")
        carry, left, right = total // 10, left // 10, right // 10
    result += carry * 10 ** len(columns)
    return f"{', '.join(columns)}, so {result}."
