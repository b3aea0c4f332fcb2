"""The world itself: its settings, and everything that is true in it.

All of it follows from `World.seed`: `random.Random` is seeded with strings (hashed by SHA-512, the
same on every machine), and what is held out is decided by a keyed digest of the thing's own name,
so it does not move when a count changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from random import Random

from llmkit.data.tinyworld import names
from llmkit.data.tinyworld.wordings import Kind, of_kind

KINDS: tuple[Kind, ...] = ("person", "town", "good")


@dataclass(frozen=True, kw_only=True)
class World:
    """Settings of a world: a recipe's `world:`. Raises ValueError where a count does not fit.

    Attributes:
        people, towns, goods: how many exist; they have 5, 3 and 2 attributes.
        names: first names, and last names, in use; people are combinations of the two.
        sum_digits: digits of the greatest operand of a sum.
        held_out: share of the names without a bearer, and of the operand pairs, that no training
            text holds.
    """

    seed: int = 0
    people: int = 200
    towns: int = 24
    goods: int = 40
    names: int = 128
    sum_digits: int = 2
    held_out: float = 0.2

    def __post_init__(self) -> None:
        pool = min(len(names.WOMEN) + len(names.MEN), len(names.LAST))
        town_names = len(names.TOWN_STARTS) * len(names.TOWN_ENDS)
        _within("names", self.names, 16, pool)
        _within("people", self.people, 20, self.names**2 // 4)
        _within("towns", self.towns, 4, town_names // 2)
        _within("goods", self.goods, 8, len(names.MATERIALS) * len(names.WARES) // 2)
        _within("sum_digits", self.sum_digits, 2, 9)
        _within("held_out", self.held_out, 0.05, 0.5)

    def holds_out(self, what: str) -> bool:
        """Whether the thing written `what` is one of the `held_out` share."""
        digest = blake2b(f"{self.seed}:{what}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") < self.held_out * 2**32


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, must be {low} to {high}")


@dataclass(frozen=True, slots=True)
class Entity:
    """A person, town or good that exists; `values` follow `of_kind(kind)`."""

    kind: Kind
    name: str
    values: tuple[str, ...]

    @property
    def pronoun(self) -> str:
        return "She" if self.name.split()[0] in names.WOMEN else "He"


@dataclass(frozen=True)
class Population:
    """All that exists, and the names that nothing bears: for training, and held out."""

    people: tuple[Entity, ...]
    towns: tuple[Entity, ...]
    goods: tuple[Entity, ...]
    unknown: Mapping[Kind, tuple[str, ...]]
    held_out: Mapping[Kind, tuple[str, ...]]

    @property
    def entities(self) -> tuple[Entity, ...]:
        return self.people + self.towns + self.goods

    def strangers(self, kind: Kind, split: str) -> tuple[str, ...]:
        """The names without a bearer of a split, `train` or `heldout`."""
        return self.unknown[kind] if split == "train" else self.held_out[kind]


@lru_cache(maxsize=8)
def population(world: World) -> Population:
    """Everything that is true in `world`."""
    women = world.names // 2
    first = names.WOMEN[:women] + names.MEN[: world.names - women]
    pools = {
        "person": [f"{f} {last}" for f in first for last in names.LAST[: world.names]],
        "town": [start + end for start in names.TOWN_STARTS for end in names.TOWN_ENDS],
        "good": [f"{m} {ware}" for m in names.MATERIALS for ware in names.WARES],
    }
    widths = {"person": world.names, "town": len(names.TOWN_ENDS), "good": len(names.WARES)}
    counts = {"person": world.people, "town": world.towns, "good": world.goods}
    rng = Random(f"{world.seed}:population")
    exist = {k: _spread(rng, pools[k], widths[k], counts[k]) for k in ("town", "person", "good")}
    unknown, held_out = {}, {}
    for kind in KINDS:
        borne = set(exist[kind])
        free = [name for name in pools[kind] if name not in borne]
        held = [world.holds_out(f"{kind}:{name}") for name in free]
        held_out[kind] = tuple(name for name, out in zip(free, held, strict=True) if out)
        unknown[kind] = tuple(name for name, out in zip(free, held, strict=True) if not out)
    made = {kind: _entities(rng, kind, exist[kind], exist["town"]) for kind in KINDS}
    return Population(made["person"], made["town"], made["good"], unknown, held_out)


def _spread(rng: Random, pool: list[str], width: int, count: int) -> list[str]:
    """`count` of the combinations in `pool` (rows of `width`), each part used about equally often.

    A part that only one existing name bears would give that name away: known and unknown names
    must differ in the combination alone.
    """
    rows = rng.sample(range(len(pool) // width), len(pool) // width)
    columns = rng.sample(range(width), width)
    chosen: dict[str, None] = {}
    turn = 0
    while len(chosen) < count:  # a diagonal, one step further in each round of the rows
        column = columns[(turn + turn // len(rows)) % width]
        chosen[pool[rows[turn % len(rows)] * width + column]] = None
        turn += 1
    return list(chosen)


def _entities(rng: Random, kind: Kind, bearers: list[str], towns: list[str]) -> tuple[Entity, ...]:
    pools = [attribute.values or tuple(towns) for attribute in of_kind(kind)]
    columns = [_dealt(rng, pool, len(bearers)) for pool in pools]
    return tuple(
        Entity(kind, n, v) for n, v in zip(bearers, zip(*columns, strict=True), strict=True)
    )


def _dealt(rng: Random, pool: tuple[str, ...], count: int) -> list[str]:
    """`count` values of `pool`, each one equally often but for the remainder."""
    dealt: list[str] = []
    while len(dealt) < count:
        dealt += rng.sample(pool, len(pool))
    dealt = dealt[:count]
    rng.shuffle(dealt)
    return dealt
