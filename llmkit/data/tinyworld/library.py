"""What the writers of a world draw from: every true sentence in every wording, rendered once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from typing import TypeVar

from llmkit.data.tinyworld.wordings import Attribute, Kind, of_kind
from llmkit.data.tinyworld.world import Entity, Population, World, population

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Told:
    """A thing with its facts as sentences and as questions with answers, one tuple a fact."""

    name: str
    called: str  # with the article where the kind has one
    named: tuple[tuple[str, ...], ...]
    pronoun: tuple[tuple[str, ...], ...]  # empty but for people
    asked: tuple[tuple[str, ...], ...]  # a question and its answer in one line


@dataclass(frozen=True)
class Library:
    """What the writers of a world draw from, rendered once."""

    world: World
    population: Population
    people: tuple[Told, ...]
    towns: tuple[Told, ...]
    goods: tuple[Told, ...]
    wordy: tuple[Told, ...]  # the people without the facts that hold a number
    neighbours: tuple[tuple[Told, ...], ...]  # by person: all who share the town
    of_town: tuple[tuple[Told, ...], ...]  # by town: its people and goods


def told(entity: Entity) -> Told:
    """Every wording of everything that is true of an entity."""
    attributes = of_kind(entity.kind)
    named, pronoun, asked = [], [], []
    for attribute, value in zip(attributes, entity.values, strict=True):
        words = {"n": entity.name, "v": value, "p": entity.pronoun}
        named.append(tuple(t.format_map(words) for t in attribute.statements))
        pronoun.append(tuple(t.format_map(words) for t in attribute.told_of))
        asked.append(tuple(line.format_map(words) for line in exchanges(attribute)))
    return Told(
        name=entity.name,
        called=called(entity.kind, entity.name),
        named=tuple(named),
        pronoun=tuple(pronoun) if all(pronoun) else (),
        asked=tuple(asked),
    )


@lru_cache(maxsize=16)
def exchanges(attribute: Attribute) -> tuple[str, ...]:
    """Templates of a question with its answer, but for answers that echo the question.

    An echo is four words or more of the question, the name being one: Gopher drops pages where
    too much is said twice.
    """
    lines = []
    for question in attribute.asked("train"):
        for answer in attribute.statements:
            words, said = answer.rstrip(".").split(), f" {question.rstrip('?')} "
            runs = (" ".join(words[i : i + 4]) for i in range(len(words) - 3))
            if not any(f" {run} " in said for run in runs):
                lines.append(f"{question} {answer}")
    return tuple(lines)


def called(kind: Kind, name: str) -> str:
    """A name as it stands in a sentence: goods take an article."""
    return f"the {name}" if kind == "good" else name


@lru_cache(maxsize=4)
def library(world: World) -> Library:
    """The library of `world`."""
    known = population(world)
    people, towns, goods = (
        tuple(told(entity) for entity in entities)
        for entities in (known.people, known.towns, known.goods)
    )
    home: dict[str, list[Told]] = {town.name: [] for town in known.towns}
    for entity, person in zip(known.people, people, strict=True):
        home[entity.values[0]].append(person)
    # Where too few live in a town to fill a page, everybody is a neighbour.
    crowd = {town: tuple(some) if len(some) > 4 else people for town, some in home.items()}
    neighbours = tuple(crowd[entity.values[0]] for entity in known.people)
    for entity, good in zip(known.goods, goods, strict=True):
        home[entity.values[1]].append(good)
    of_town = tuple(
        tuple(home[entity.name]) if len(home[entity.name]) > 4 else people for entity in known.towns
    )
    return Library(world, known, people, towns, goods, wordy(people), neighbours, of_town)


def wordy(people: tuple[Told, ...]) -> tuple[Told, ...]:
    """People without the facts that hold a number."""
    words = [i for i, a in enumerate(of_kind("person")) if not a.is_number]
    return tuple(
        replace(
            person,
            named=tuple(person.named[i] for i in words),
            pronoun=tuple(person.pronoun[i] for i in words),
        )
        for person in people
    )


def pick(rng: Random, items: tuple[T, ...]) -> T:
    """`rng.choice`, at a third of its time: a document draws some forty times."""
    return items[int(rng.random() * len(items))]
