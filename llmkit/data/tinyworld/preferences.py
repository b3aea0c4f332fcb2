"""Preference pairs about a world: the taught answer over one with a known fault, the pair's kind.

    wrong_value    the right value        over  the value of another thing
    wrong_sum      the right working      over  one with a mistake in it, and a wrong result
    invented       a refusal              over  a value for something that does not exist
    false_refusal  a known fact           over  a refusal
    verbose        the answer             over  the answer and more words
    unfinished     the answer             over  the answer cut off; half of them end their turn
    unasked        the answer             over  a truth that was not asked for
    format         the answer             over  the same in a form that is not taught

Length tells nothing over all: the rejected answer is longer in one half of the pairs, shorter in
the other. So `verbose` and `false_refusal` weigh as much as `unfinished`, `invented` and `format`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass
from random import Random
from typing import Any, NamedTuple

from llmkit.data.tinyworld.asking import Asker, check_shares, dealt
from llmkit.data.tinyworld.library import pick
from llmkit.data.tinyworld.mistakes import Asked, miscounted, reworded, unfinished, verbose
from llmkit.data.tinyworld.questions import Question, Sum
from llmkit.data.tinyworld.wordings import Kind, Split
from llmkit.data.tinyworld.world import Entity, World, population


class Choice(NamedTuple):
    """A question, and the answer to it that is rejected; does that close its turn?"""

    asked: Asked
    rejected: str
    ended: bool = True


@dataclass(frozen=True, kw_only=True)
class PairMix:
    """What is wrong with the rejected answers, each a share of all pairs; the rest is wrong_value.

    Values and sums are what a reward model learns last, so that they have the most.
    """

    wrong_sum: float = 0.24
    invented: float = 0.08
    false_refusal: float = 0.08
    verbose: float = 0.08
    unfinished: float = 0.06
    unasked: float = 0.06
    format: float = 0.04

    def __post_init__(self) -> None:
        check_shares(astuple(self), "preferences")


class Chooser:
    """Draws the pairs of one split of a world, a method for each kind."""

    def __init__(self, world: World, split: Split, rng: Random) -> None:
        self.world, self.split, self.rng = world, split, rng
        self.asker = Asker(world, split, rng)
        self.valued = Asker(world, split, rng)  # for wrong_value alone, so that no fact lacks pairs
        self.things: dict[tuple[Kind, str], Entity] = {}
        self.namesakes: dict[tuple[Kind, str], list[Entity]] = {}  # by kind and a word of the name
        self.borne: dict[tuple[Kind, str], list[str]] = {}  # by kind and attribute: the values
        for entity in population(world).entities:
            self.things[entity.kind, entity.name] = entity
            for word in entity.name.split():
                self.namesakes.setdefault((entity.kind, word), []).append(entity)
            for attribute, value in self.facts_of(entity):
                self.borne.setdefault((entity.kind, attribute), []).append(value)
        self.decks: dict[tuple[str, str], list[str]] = {}

    def facts_of(self, entity: Entity) -> Iterator[tuple[str, str]]:
        names = (attribute.name for attribute in self.asker.attributes[entity.kind])
        return zip(names, entity.values, strict=True)

    def wrong_value(self) -> Choice:
        """All facts equally often; of each, every other value once before one comes again."""
        asked = self.valued.fact()
        deck = self.decks.setdefault((asked.name, asked.attribute), [])
        if not deck:
            others = sorted(set(self.borne[asked.kind, asked.attribute]) - {asked.value})
            deck += self.rng.sample(others, len(others))
        return Choice(asked, asked.answer_with(deck.pop()))

    def wrong_sum(self) -> Choice:
        asked = self.asker.sum()
        return Choice(asked, miscounted(self.rng, asked, self.world, self.split))

    def invented(self) -> Choice:
        asked = self.asker.unknown()
        values = tuple(self.borne[asked.kind, asked.attribute])
        return Choice(asked, asked.answer_with(pick(self.rng, values)))

    def false_refusal(self) -> Choice:
        asked = self.asker.fact()
        return Choice(asked, asked.refusal)

    def verbose(self) -> Choice:
        asked = self.question()
        return Choice(asked, verbose(self.rng, asked, self.split))

    def unfinished(self) -> Choice:
        asked = self.question()
        return Choice(asked, unfinished(self.rng, asked), ended=self.rng.random() < 0.5)

    def format(self) -> Choice:
        asked = self.question()
        return Choice(asked, reworded(self.rng, asked))

    def unasked(self) -> Choice:
        """Another fact of the thing, the fact of a thing of like name, or another sum."""
        asked = self.question()
        if isinstance(asked, Sum):
            other = self.asker.sum()
            while other.answer == asked.answer:
                other = self.asker.sum()
            return Choice(asked, other.answer)
        if asked.value and self.rng.random() < 0.5:
            entity = self.things[asked.kind, asked.name]
            facts = [fact for fact in self.facts_of(entity) if fact[0] != asked.attribute]
        else:
            entity = self.alike(asked)
            facts = [fact for fact in self.facts_of(entity) if fact[0] == asked.attribute]
        attribute, value = pick(self.rng, tuple(facts))
        return Choice(asked, Question("", value, entity.kind, attribute, entity.name).answer)

    def alike(self, asked: Question) -> Entity:
        """Something else that exists and shares a word of the name, else any of the kind."""
        words = asked.name.split()
        like = [e for word in words for e in self.namesakes.get((asked.kind, word), ())]
        like = [entity for entity in like if entity.name != asked.name]
        if not like:
            things = self.things.values()
            like = [e for e in things if e.kind == asked.kind and e.name != asked.name]
        return pick(self.rng, tuple(like))

    def question(self) -> Asked:
        """A question of any sort, for the faults that any answer may have."""
        draws: tuple[tuple[float, Callable[[], Asked]], ...] = (
            (0.5, self.asker.fact),
            (0.3, self.asker.sum),
        )
        return dealt(self.rng, draws, self.asker.unknown)()


DRAWS: dict[str, Callable[[Chooser], Choice]] = {
    "wrong_value": Chooser.wrong_value,
    "wrong_sum": Chooser.wrong_sum,
    "invented": Chooser.invented,
    "false_refusal": Chooser.false_refusal,
    "verbose": Chooser.verbose,
    "unfinished": Chooser.unfinished,
    "unasked": Chooser.unasked,
    "format": Chooser.format,
}


def preferences(
    world: World, num: int, seed: int = 0, split: Split = "train", mix: PairMix | None = None
) -> Iterator[dict[str, Any]]:
    """Yield `num` rows in TRL's form, with `kind` and `rejected_ended` beside it; with
    `split="heldout"` of held-out wordings, names and sums only."""
    rng = Random(f"{world.seed}:preferences:{split}:{seed}")
    chooser, mix = Chooser(world, split, rng), mix or PairMix()
    shares = [(share, kind) for kind, share in asdict(mix).items()]
    for _ in range(num):
        kind = dealt(rng, shares, "wrong_value")
        asked, rejected, ended = DRAWS[kind](chooser)
        yield {
            "prompt": [{"role": "user", "content": asked.text}],
            "chosen": asked.answer,
            "rejected": rejected,
            "kind": kind,
            "rejected_ended": ended,
        }
