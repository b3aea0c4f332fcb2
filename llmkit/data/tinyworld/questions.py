"""What may be asked of a world, with the right answers: for measuring, and for probing a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from llmkit.data.tinyworld import sums
from llmkit.data.tinyworld.library import told
from llmkit.data.tinyworld.wordings import (
    SUM_QUESTIONS,
    Attribute,
    Kind,
    Split,
    attribute_named,
    of_kind,
)
from llmkit.data.tinyworld.world import KINDS, Entity, World, population


@dataclass(frozen=True, slots=True)
class Question:
    """A question (or, for `cloze`, the beginning of a sentence) and the value it asks for."""

    text: str
    value: str  # "" where the thing does not exist
    kind: Kind
    attribute: str
    name: str

    @property
    def asks_for(self) -> Attribute:
        return attribute_named(self.kind, self.attribute)

    @property
    def refusal(self) -> str:
        """What one says who does not know."""
        return self.asks_for.unknown.format(n=self.name)

    @property
    def answer(self) -> str:
        """What conversations teach to say."""
        return self.answer_with(self.value) if self.value else self.refusal

    def answer_with(self, value: str) -> str:
        """The answer, in the form that is taught, with any value."""
        return self.asks_for.answer.format(n=self.name, v=value)


@dataclass(frozen=True, slots=True)
class Sum:
    """A question for `a + b`."""

    text: str
    a: int
    b: int

    @property
    def value(self) -> str:
        return str(self.a + self.b)

    @property
    def answer(self) -> str:
        """What conversations teach to say."""
        return sums.worked(self.a, self.b)


def questions(world: World, split: Split = "heldout") -> Iterator[Question]:
    """Every attribute of everything that exists, in each wording of the split."""
    for entity in population(world).entities:
        for attribute, value in zip(of_kind(entity.kind), entity.values, strict=True):
            for wording in attribute.asked(split):
                text = wording.format(n=entity.name)
                yield Question(text, value, entity.kind, attribute.name, entity.name)


def unknown_questions(world: World, split: Split = "heldout") -> Iterator[Question]:
    """One question about each name of the split that nothing bears, in a wording of the split."""
    rng = Random(f"{world.seed}:unknown_questions:{split}")
    for kind in KINDS:
        for name in population(world).strangers(kind, split):
            attribute = rng.choice(of_kind(kind))
            text = rng.choice(attribute.asked(split)).format(n=name)
            yield Question(text, "", kind, attribute.name, name)


def cloze(world: World) -> Iterator[Question]:
    """Every fact as the words that stand before its value in the training documents.

    The first sentence is a page's own, so that the name in the second is one of a known page.
    """
    rng = Random(f"{world.seed}:cloze")
    for entity in population(world).entities:
        yield from _cloze_of(rng, entity)


def _cloze_of(rng: Random, entity: Entity) -> Iterator[Question]:
    thing = told(entity)
    facts = zip(of_kind(entity.kind), entity.values, thing.named, strict=True)
    for attribute, value, sentences in facts:
        before, _, _ = rng.choice(sentences).rpartition(f" {value}")
        text = f"This is the page of {thing.called}. {before}"
        yield Question(text, value, entity.kind, attribute.name, entity.name)


def sum_questions(
    world: World, rng: Random, count: int, held_out: bool = True
) -> Iterator[tuple[str, str]]:
    """At most `count` sums of different pairs, held-out ones or not, each with its result."""
    asked: set[tuple[int, int]] = set()
    misses = 0
    while len(asked) < count and misses < 1000:  # a small world may have fewer than `count`
        pair = sums.operands(world, rng, held_out)
        if pair in asked:
            misses += 1
            continue
        misses = 0
        asked.add(pair)
        a, b = pair
        yield rng.choice(SUM_QUESTIONS).format(a=a, b=b), str(a + b)
