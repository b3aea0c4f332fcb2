"""Conversations about a world in TRL's form, `{"messages": [{"role", "content"}, ...]}`.

A turn asks for a fact, asks about something that does not exist (the right answer is that one does
not know), asks for a sum, or is small talk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from llmkit.data.tinyworld.asking import Asker, check_shares, dealt
from llmkit.data.tinyworld.library import pick
from llmkit.data.tinyworld.wordings import SMALLTALK, Split
from llmkit.data.tinyworld.world import World

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
        check_shares((self.unknown, self.sums, self.smalltalk), "conversations")
        check_shares((self.multi_turn,), "conversations")


class Speaker:
    """Draws the turns of one split of a world."""

    def __init__(self, world: World, split: Split, mix: Mix, rng: Random) -> None:
        self.asker, self.rng, self.mix = Asker(world, split, rng), rng, mix
        self.choices: tuple[tuple[float, Callable[[], Turn]], ...] = (
            (mix.unknown, self.unknown),
            (mix.sums, self.sum),
            (mix.smalltalk, self.smalltalk),
        )

    def fact(self) -> Turn:
        asked = self.asker.fact()
        return asked.text, asked.answer

    def unknown(self) -> Turn:
        asked = self.asker.unknown()
        return asked.text, asked.answer

    def sum(self) -> Turn:
        asked = self.asker.sum()
        return asked.text, asked.answer

    def smalltalk(self) -> Turn:
        return pick(self.rng, SMALLTALK)

    def turn(self) -> Turn:
        return dealt(self.rng, self.choices, self.fact)()


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
