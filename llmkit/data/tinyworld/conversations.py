"""Conversations about a world in TRL's form, `{"messages": [{"role", "content"}, ...]}`.

A turn asks for a fact, asks about something that does not exist (the right answer is that one does
not know), asks for a sum, or is small talk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from llmkit.data.tinyworld import sums
from llmkit.data.tinyworld.library import pick
from llmkit.data.tinyworld.wordings import (
    SMALLTALK,
    SUM_QUESTIONS,
    Attribute,
    Split,
    of_kind,
)
from llmkit.data.tinyworld.world import KINDS, Entity, World, population

Turn = tuple[str, str]  # what the user says, what the assistant answers


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What the turns are about, each a share of all turns; the rest asks for known facts.

    More refusals make a model refuse what it knows: .1 measured better than .2.
    """

    unknown: float = 0.1
    sums: float = 0.2
    smalltalk: float = 0.04
    multi_turn: float = 0.1  # of the conversations, have two or three turns

    def __post_init__(self) -> None:
        shares = (self.unknown, self.sums, self.smalltalk)
        if min(*shares, self.multi_turn) < 0 or sum(shares) > 1 or self.multi_turn > 1:
            raise ValueError(f"shares of conversations must be 0 to 1 in all, not {shares}")


class Speaker:
    """Draws the turns of one split of a world."""

    def __init__(self, world: World, split: Split, mix: Mix, rng: Random) -> None:
        self.world, self.split, self.mix, self.rng = world, split, mix, rng
        known = population(world)
        self.facts: list[tuple[Entity, int]] = [
            (entity, i) for entity in known.entities for i in range(len(entity.values))
        ]
        self.strangers = {kind: known.strangers(kind, split) for kind in KINDS}
        self.wordings = {a: a.asked(split) for kind in KINDS for a in of_kind(kind)}
        self.attributes: dict[str, tuple[Attribute, ...]] = {k: of_kind(k) for k in KINDS}
        self.left: list[tuple[Entity, int]] = []

    def fact(self) -> Turn:
        """Every fact comes once before one comes again."""
        if not self.left:
            self.left = self.rng.sample(self.facts, len(self.facts))
        entity, i = self.left.pop()
        attribute = self.attributes[entity.kind][i]
        question = pick(self.rng, self.wordings[attribute]).format(n=entity.name)
        return question, attribute.answer.format(n=entity.name, v=entity.values[i])

    def unknown(self) -> Turn:
        kind = pick(self.rng, ("person", "person", "person", "person", *KINDS))
        name = pick(self.rng, self.strangers[kind])
        attribute = pick(self.rng, self.attributes[kind])
        question = pick(self.rng, self.wordings[attribute]).format(n=name)
        return question, attribute.unknown.format(n=name)

    def sum(self) -> Turn:
        a, b = sums.operands(self.world, self.rng, held_out=self.split == "heldout")
        return pick(self.rng, SUM_QUESTIONS).format(a=a, b=b), sums.worked(a, b)

    def smalltalk(self) -> Turn:
        return pick(self.rng, SMALLTALK)

    def turn(self) -> Turn:
        at = self.rng.random()
        choices: tuple[tuple[float, Callable[[], Turn]], ...] = (
            (self.mix.unknown, self.unknown),
            (self.mix.sums, self.sum),
            (self.mix.smalltalk, self.smalltalk),
        )
        for share, draw in choices:
            at -= share
            if at < 0:
                return draw()
        return self.fact()


def conversations(
    world: World, num: int, seed: int = 0, split: Split = "train", mix: Mix | None = None
) -> Iterator[dict[str, Any]]:
    """Yield `num` rows; with `split="heldout"` of held-out wordings, names and sums only."""
    rng = Random(f"{world.seed}:conversations:{split}:{seed}")
    speaker = Speaker(world, split, mix or Mix(), rng)
    for _ in range(num):
        turns = 2 + int(rng.random() * 2) if rng.random() < speaker.mix.multi_turn else 1
        messages = []
        for _ in range(turns):
            asked, answered = speaker.turn()
            messages.append({"role": "user", "content": asked})
            messages.append({"role": "assistant", "content": answered})
        yield {"messages": messages}
