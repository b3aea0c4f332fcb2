"""Sums, their working in words, and the operand pairs that no training text holds.

`27 + 45` is worked out column by column from the right, with the carry in front:
`7 + 5 = 12, 1 + 2 + 4 = 7, so 72.` (A column's carry goes on; its last digit stays.)
"""

from __future__ import annotations

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


def worked(a: int, b: int) -> str:
    """The working of `a + b`: `worked(27, 45) == "7 + 5 = 12, 1 + 2 + 4 = 7, so 72."`"""
    columns: list[str] = []
    carry, left, right = 0, a, b
    while left or right or not columns:
        x, y = left % 10, right % 10
        total = carry + x + y
        columns.append(f"{'1 + ' if carry else ''}{x} + {y} = {total}")
        carry, left, right = total // 10, left // 10, right // 10
    return f"{', '.join(columns)}, so {a + b}."
