"""A step that the ranks cannot share out: `llmkit run` stops there, and what would go instead.

Each rank reads as many rows in every pass, so `tokens_per_step` has to be a multiple of rows x
context x ranks (`accumulation_steps` in llmkit/trainers/arguments.py).
"""

from __future__ import annotations

from llmkit.cost.hardware import Hardware
from llmkit.planning.work import Work


def stops(work: Work, hardware: Hardware) -> tuple[str, ...]:
    """In words: why the stage would stop, and the least change of each kind that would do."""
    if work.odd is None:
        return ()
    wanted, rows, at_once = work.odd, work.load.rows, work.load.tokens * work.load.ranks
    each = f"{rows} rows x {work.context:,} tokens x {work.load.ranks} ranks"
    what = f"tokens_per_step {wanted:,} is no multiple of the {at_once:,} of one pass ({each})"
    ways = [f"tokens_per_step: {nearest_multiple(wanted, at_once)}"]
    less = fewer_rows(wanted, rows, at_once // rows)
    if less is not None:
        ways.insert(0, f"args.per_device_train_batch_size: {less}")
    counts = near_divisors(wanted, work.load.tokens, work.load.ranks)
    others = [str(Hardware(hardware.accelerator, count)) for count in counts]
    if others:
        ways.append(" or ".join(others))
    return (f"WOULD STOP: {what}", *(f"would go: {way}" for way in ways))


def nearest_multiple(wanted: int, at_once: int) -> int:
    """The multiple of `at_once` that is nearest to `wanted`, and not 0.

    >>> nearest_multiple(524_288, 196_608), nearest_multiple(524_288, 1_048_576)
    (589824, 1048576)
    """
    low = max(1, wanted // at_once) * at_once
    return low if wanted - low <= low + at_once - wanted else low + at_once


def fewer_rows(wanted: int, rows: int, tokens: int) -> int | None:
    """The most rows below `rows` that divide `wanted`, with `tokens` read by all in each."""
    return next((n for n in range(rows - 1, 0, -1) if wanted % (n * tokens) == 0), None)


def near_divisors(wanted: int, tokens: int, ranks: int) -> list[int]:
    """The numbers of ranks next to `ranks`, on either side, that share `wanted` out evenly.

    >>> near_divisors(524_288, 64 * 1024, 3), near_divisors(524_288, 64 * 1024, 7)
    ([2, 4], [4, 8])
    """
    passes, rest = divmod(wanted, tokens)
    if rest:
        return []
    even = [count for count in range(1, passes + 1) if passes % count == 0]
    below = [count for count in even if count < ranks][-1:]
    return below + [count for count in even if count > ranks][:1]
