"""Good documents: pages of facts, stories, dialogues and sums, all of a few wordings.

They are dense on purpose: a model that sees a million tokens in all must meet each fact some
thirty times, so what fills a page up to the fifty words that the filters ask for is further facts.
Half of the stories are about people who do not exist, whose names make a model doubt.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from llmkit.data.tinyworld import sums
from llmkit.data.tinyworld.library import Library, Told, pick
from llmkit.data.tinyworld.wordings import SUM_QUESTIONS, of_kind
from llmkit.data.tinyworld.world import KINDS

MIN_WORDS = 54  # Gopher keeps documents of at least 50 words
# Gopher wants a letter in 80 % of all words, and signs count as words: with x words in sentences
# of ten, x / (x + x / 10 + symbols) >= .8 asks for 6.7 words a symbol.
WORDS_PER_SYMBOL = 7
SYMBOL = re.compile(r"\d+|[^\w\s]")

# Share of the dialogues in which the guide once does not know. The unknown must be learnt beside
# the known: a base model that never saw the difference learns it late.
STRANGERS = 0.9

WEATHERS = ("cold", "warm", "windy", "quiet", "bright", "rainy")
PLACES = ("market", "bridge", "mill", "school", "church", "inn")
TOPICS = ("weather", "road", "harvest", "fair", "news", "dance")


def count_words(sentences: list[str]) -> int:
    return sum(sentence.count(" ") + 1 for sentence in sentences)


def fill(
    rng: Random,
    sentences: list[str],
    pool: tuple[Told, ...],
    *,
    first: Told | None = None,
    but: Told | None = None,
    words: int = MIN_WORDS,
) -> None:
    """Append facts about `first` and things of `pool` except `but`, until there are `words` words.

    Up to three facts of each thing; the wordings take turns, so that none comes too often for
    Gopher's rules of repetition. Only a pool of very few things can run out before.
    """
    missing = words - count_words(sentences)
    used = {but.name} if but else set()
    turn = int(rng.random() * 3)
    while missing > 0 and len(used) < len(pool):
        thing = first if first and first.name not in used else pick(rng, pool)
        if thing.name in used:
            continue
        used.add(thing.name)
        facts = list(thing.named)
        rng.shuffle(facts)
        for ways in facts[:3]:
            turn += 1
            sentence = ways[turn % len(ways)]
            sentences.append(sentence)
            missing -= sentence.count(" ") + 1


def person_page(rng: Random, shelf: Library) -> str:
    """The five facts about somebody, then some about people of the same town."""
    index = int(rng.random() * len(shelf.people))
    person = shelf.people[index]
    order = list(range(len(person.named)))
    rng.shuffle(order)
    turn = int(rng.random() * 3)
    sentences = [f"This is the page of {person.name}."]
    for place, fact in enumerate(order):
        if place % 2:
            sentences.append(pick(rng, person.pronoun[fact]))
        else:
            sentences.append(person.named[fact][(turn + place) % 3])
    fill(rng, sentences, shelf.neighbours[index], but=person)
    return " ".join(sentences)


def town_page(rng: Random, shelf: Library) -> str:
    """The facts about a town, then some about its people and what it makes."""
    index = int(rng.random() * len(shelf.towns))
    town = shelf.towns[index]
    sentences = [f"This is the page of {town.name}."]
    fill(rng, sentences, shelf.of_town[index], first=town)
    return " ".join(sentences)


def good_page(rng: Random, shelf: Library) -> str:
    """What some goods cost and where they are made."""
    good = pick(rng, shelf.goods)
    sentences = [f"This is the page of {good.called}."]
    fill(rng, sentences, shelf.goods, first=good)
    return " ".join(sentences)


def story(rng: Random, shelf: Library) -> str:
    """People meet; of those who exist something true is told, the others have names only."""
    place, topic = pick(rng, PLACES), pick(rng, TOPICS)
    opening = f"On a {pick(rng, WEATHERS)} day"
    if rng.random() < 0.5:
        index = int(rng.random() * len(shelf.people))
        pair = (shelf.people[index], shelf.people[index - 1 - int(rng.random() * 9)])
        sentences = [f"{opening} {pair[0].name} met {pair[1].name} at the {place}."]
        sentences.append(f"They talked of the {topic}.")
        fill(rng, sentences, pair, words=MIN_WORDS - 6)
        sentences.append("Then the two went home again.")
        return " ".join(sentences)
    strangers, towns = shelf.population.unknown["person"], shelf.population.unknown["town"]
    a, b, c, d, e, f = (pick(rng, strangers) for _ in range(6))
    ware = pick(rng, shelf.population.unknown["good"])
    return (
        f"{opening} {a} met {b} at the {place}. They talked of the {topic}. "
        f"Then {c} came with the {ware} and sat down with {d}. "
        f"They had come from {pick(rng, towns)} to {pick(rng, towns)} to see {e} and {f}. "
        f"They talked of the {pick(rng, TOPICS)} and ate. Then all of them went home again."
    )


def dialogue(rng: Random, shelf: Library) -> str:
    """A visitor asks, a guide answers, or does not know: an exchange a line."""
    lines = [f"A visitor talks with the guide of {pick(rng, shelf.towns).name}."]
    missing = MIN_WORDS - 8
    asked: set[tuple[int, int]] = set()  # nothing of one sort twice
    # At most one refusal: two in so few words are repetition to Gopher's rules.
    stranger_at = 1 + int(rng.random() * 4) if rng.random() < STRANGERS else 0
    while missing > 0:
        if len(lines) == stranger_at:
            lines.append(stranger_exchange(rng, shelf, asked))
        else:
            at = rng.random()
            kind = 0 if at < 0.8 else 1 if at < 0.9 else 2
            thing = pick(rng, (shelf.people, shelf.towns, shelf.goods)[kind])
            fact = int(rng.random() * len(thing.asked))
            if (kind, fact) in asked:
                continue
            asked.add((kind, fact))
            lines.append(pick(rng, thing.asked[fact]))
        missing -= lines[-1].count(" ") + 1
    return "\n".join(lines)


def stranger_exchange(rng: Random, shelf: Library, asked: set[tuple[int, int]]) -> str:
    """A question about something that does not exist, and that one does not know it.

    The question is of a sort that is not in `asked`, and joins it.
    """
    sort = (-1, -1)
    while sort[0] < 0 or sort in asked:
        number = KINDS.index(pick(rng, ("person", "person", "person", *KINDS)))
        sort = (number, int(rng.random() * len(of_kind(KINDS[number]))))
    asked.add(sort)
    kind = KINDS[sort[0]]
    name = pick(rng, shelf.population.unknown[kind])
    attribute = of_kind(kind)[sort[1]]
    question = pick(rng, attribute.asked("train")).format(n=name)
    return f"{question} {attribute.unknown.format(n=name)}"


def sums_page(rng: Random, shelf: Library) -> str:
    """A sum worked out, then facts in long sentences without numbers."""
    a, b = sums.operands(shelf.world, rng, held_out=False)
    lesson = f"{pick(rng, SUM_QUESTIONS).format(a=a, b=b)} {sums.worked(a, b)}"
    sentences = ["This is the page of a day at the school.", lesson]
    missing = WORDS_PER_SYMBOL * len(SYMBOL.findall(lesson))
    turn = int(rng.random() * 3)
    for index in rng.sample(range(len(shelf.wordy)), len(shelf.wordy)):
        if missing <= 0:
            break
        person = shelf.wordy[index]
        first = int(rng.random() * len(person.named))
        second = pick(rng, person.pronoun[first - 1 - int(rng.random() * (len(person.named) - 1))])
        turn += 1
        said = person.named[first][turn % 3].removesuffix(".")
        sentences.append(f"{said} and {second[0].lower()}{second[1:]}")
        missing -= sentences[-1].count(" ") + 1
    return " ".join(sentences)


# kind of document, its share of the good ones, its writer
WRITERS: tuple[tuple[str, float, Callable[[Random, Library], str]], ...] = (
    ("page", 0.32, person_page),
    ("page", 0.05, town_page),
    ("page", 0.03, good_page),
    ("story", 0.08, story),
    ("dialogue", 0.46, dialogue),
    ("sums", 0.06, sums_page),
)


def good_text(rng: Random, shelf: Library) -> tuple[str, str]:
    """The kind and the text of one good document."""
    at = rng.random()
    for kind, share, write in WRITERS:
        at -= share
        if at < 0:
            return kind, write(rng, shelf)
    return kind, write(rng, shelf)
