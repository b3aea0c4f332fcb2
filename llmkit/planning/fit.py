"""What makes a training fit that does not: fewer rows at once, recomputation, sharding, a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmkit.cost.hardware import CPUS, GIB, TABLE, Hardware
from llmkit.cost.memory import Load, memory_of
from llmkit.cost.shapes import Shape
from llmkit.planning.launches import Launch

Change = tuple[str, Load, Hardware]  # in words, and what it makes of the two
RECOMPUTE = "args.gradient_checkpointing: true"


def remedies(
    shape: Shape,
    load: Load,
    hardware: Hardware,
    launches: Sequence[Launch] = (),
    profiles: Sequence[str] = (),
    odd: int | None = None,
) -> tuple[str, ...]:
    """In words: that it does not fit, and the least change of each kind that would do.

    Args:
        launches: the shapes that may share the model among the ranks.
        profiles: commands under whose profiles it fits, which were found before.
        odd: the tokens of a step that the ranks cannot share out; then a way has to do that too.
    """
    needed = memory_of(shape, load, hardware).peak
    ways = list(profiles)
    families = (
        fewer_rows(load, hardware),
        less_kept(load, hardware),
        sharded(load, hardware, launches),
        larger(load, hardware),
    )
    for family in families:
        found = (
            words
            for words, other, on in family
            if fits(shape, other, on) and shares_out(odd, other)
        )
        ways += [way for way in (next(found, None),) if way is not None]
    has = f"a {hardware.accelerator.name} has {hardware.memory / GIB:.1f} GiB"
    what = f"DOES NOT FIT: it needs {needed / GIB:.1f} GiB, and {has}"
    if not ways and odd is not None:
        return (f"{what} to give; settle the step first, and plan again",)
    if not ways:
        return (f"{what} to give; nothing tried here makes it fit",)
    return (f"{what} to give", *(f"would fit: {way}" for way in ways))


def fits(shape: Shape, load: Load, hardware: Hardware) -> bool:
    return memory_of(shape, load, hardware).peak <= hardware.memory


def shares_out(odd: int | None, load: Load) -> bool:
    """Whether such a step is a number of whole passes of all ranks."""
    return odd is None or odd % (load.tokens * load.ranks) == 0


def fewer_rows(load: Load, hardware: Hardware) -> Iterator[Change]:
    """The same step in more passes of fewer rows: of half, a quarter, where that divides them."""
    rows = load.rows
    while rows > 1:
        rows //= 2
        if load.rows % rows:
            continue
        less = load.with_(rows=rows, passes=load.rows * load.passes // rows)
        yield f"args.per_device_train_batch_size: {rows}", less, hardware


def less_kept(load: Load, hardware: Hardware) -> Iterator[Change]:
    if not load.recompute:
        again = load.with_(recompute=True)
        yield RECOMPUTE, again, hardware
        for words, less, on in fewer_rows(again, hardware):
            yield f"{words} and {RECOMPUTE}", less, on


def sharded(load: Load, hardware: Hardware, launches: Sequence[Launch]) -> Iterator[Change]:
    """Over the ranks that there are."""
    if hardware.ranks == 1:
        return
    for launch in launches:
        yield str(launch), load.with_(sharding=launch.sharding), hardware
    for launch in launches[-1:]:
        for words, less, on in less_kept(load.with_(sharding=launch.sharding), hardware):
            yield f"{launch}, {words}", less, on


def larger(load: Load, hardware: Hardware) -> Iterator[Change]:
    """The smallest of the table that holds it."""
    for device in sorted(TABLE, key=lambda item: item.memory):
        if device.name not in CPUS and device.memory > hardware.accelerator.memory:
            yield f"{hardware.count}x{device.name}", load, Hardware(device, hardware.count)
