"""Draws questions about a world without end: known facts, things that do not exist, sums."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import TypeVar

from llmkit.data.tinyworld import sums
from llmkit.data.tinyworld.library import pick
from llmkit.data.tinyworld.questions import Question, Sum
from llmkit.data.tinyworld.wordings import SUM_QUESTIONS, Attribute, Split, of_kind
from llmkit.data.tinyworld.world import KINDS, Entity, World, population

T = TypeVar("T")


class Asker:
    """Draws the questions of one split of a world: its wordings, its strangers, its operands."""

    def __init__(self, world: World, split: Split, rng: Random) -> None:
        self.world, self.split, self.rng = world, split, rng
        known = population(world)
        self.facts: list[tuple[Entity, int]] = [
            (entity, i) for entity in known.entities for i in range(len(entity.values))
        ]
        self.strangers = {kind: known.strangers(kind, split) for kind in KINDS}
        self.attributes: dict[str, tuple[Attribute, ...]] = {k: of_kind(k) for k in KINDS}
        self.wordings = {a: a.asked(split) for kind in KINDS for a in of_kind(kind)}
        self.left: list[tuple[Entity, int]] = []

    def fact(self) -> Question:
        """Every fact comes once before one comes again."""
        if not self.left:
            self.left = self.rng.sample(self.facts, len(self.facts))
        entity, i = self.left.pop()
        return self.about(entity, i)

    def about(self, entity: Entity, i: int) -> Question:
        """The question for value `i` of something that exists."""
        attribute = self.attributes[entity.kind][i]
        text = pick(self.rng, self.wordings[attribute]).format(n=entity.name)
        return Question(text, entity.values[i], entity.kind, attribute.name, entity.name)

    def unknown(self) -> Question:
        kind = pick(self.rng, ("person", "person", "person", "person", *KINDS))
        name = pick(self.rng, self.strangers[kind])
        attribute = pick(self.rng, self.attributes[kind])
        text = pick(self.rng, self.wordings[attribute]).format(n=name)
        return Question(text, "", kind, attribute.name, name)

    def sum(self) -> Sum:
        a, b = sums.operands(self.world, self.rng, held_out=self.split == "heldout")
        return Sum(pick(self.rng, SUM_QUESTIONS).format(a=a, b=b), a, b)


def dealt(rng: Random, shares: Iterable[tuple[float, T]], rest: T) -> T:
    """One of the choices, each by its share of 0..1; `rest` has what the shares leave."""
    at = rng.random()
    for share, choice in shares:
        at -= share
        if at < 0:
            return choice
    return rest


def check_shares(shares: Iterable[float], what: str) -> None:
    """Raises ValueError where they are no shares of one whole."""
    given = tuple(shares)
    if min(given) < 0 or sum(given) > 1 + 1e-9:  # .1 + .2 + .7 may be a little more than 1
        raise ValueError(f"shares of {what} must be 0 to 1 in all, not {given}")
