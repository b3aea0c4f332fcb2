"""What can be known of a thing in tinyworld, and every wording it is told and asked in.

In the templates `{n}` is the thing's name, `{v}` the value and `{p}` the pronoun, `He` or `She`.
Of the eight questions of an attribute the last two are held out: no document and no training
conversation holds them. Statements begin with other words than the name or are never the first
sentence of a text, so that a name always stands behind a space and stays one token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from llmkit.data.tinyworld import names

Kind = Literal["person", "town", "good"]
Split = Literal["train", "heldout"]
# Of the eight questions of an attribute, the last ones. No opening is held out of all attributes:
# "Tell me" is new for a pet but known from the trade, or it would be a new language, not a wording.
HELD_OUT_WORDINGS = 2


@dataclass(frozen=True)
class Attribute:
    """One property of one kind of thing."""

    kind: Kind
    name: str
    values: tuple[str, ...]  # empty: towns, whose names are made rather than listed
    answer: str  # also one of the statements
    told: tuple[str, ...]  # further statements that name the thing and end with the value
    told_of: tuple[str, ...]  # statements with a pronoun
    questions: tuple[str, ...]

    @property
    def statements(self) -> tuple[str, ...]:
        """Whole sentences that name the thing; the value is the end of each."""
        return (self.answer, *self.told)

    @property
    def unknown(self) -> str:
        """What somebody says who does not know: the answer up to where its value would come.

        The choice between value and refusal then stands where a model recalls the value. Refusals
        that begin otherwise ("I have never heard of ...") ask for it before the name is said, and a
        model of two layers did not learn that in the time of the quickstart (docs/log.md).
        """
        return self.answer.split(" is ")[0] + " is unknown to me."

    @property
    def is_number(self) -> bool:
        return bool(self.values) and self.values[0].isdigit()

    def asked(self, split: Split) -> tuple[str, ...]:
        """The question wordings of a split."""
        cut = len(self.questions) - HELD_OUT_WORDINGS
        return self.questions[:cut] if split == "train" else self.questions[cut:]

    def named_in(self, text: str) -> set[str]:
        """Every value of this attribute that stands in `text` as a whole word."""
        words = re.findall(r"\w+", text)
        if not self.values:
            return {word for word in words if TOWN.fullmatch(word)}
        if self.is_number:
            return {word for word in words if word.isdigit()}
        return {word for word in words if word in self.values}


TOWN = re.compile(f"(?:{'|'.join(names.TOWN_STARTS)})(?:{'|'.join(names.TOWN_ENDS)})")

ATTRIBUTES = (
    Attribute(
        kind="person",
        name="town",
        values=(),
        answer="The home of {n} is {v}.",
        told=("{n} lives in {v}.", "The home town of {n} is {v}."),
        told_of=("{p} lives in {v}.", "{p} has a house in {v}."),
        questions=(
            "Where does {n} live?",
            "In which town does {n} live?",
            "What is the home town of {n}?",
            "Which town is the home of {n}?",
            "Can you tell me where {n} lives?",
            "Where is the house of {n}?",
            "Tell me the town where {n} lives.",
            "Where is the home of {n}?",
        ),
    ),
    Attribute(
        kind="person",
        name="trade",
        values=names.TRADES,
        answer="The work of {n} is that of a {v}.",
        told=("{n} works as a {v}.", "By trade {n} is a {v}."),
        told_of=("{p} works as a {v}.", "{p} is a {v} by trade."),
        questions=(
            "What is the trade of {n}?",
            "What does {n} do for a living?",
            "What work does {n} do?",
            "As what does {n} work?",
            "Tell me what work {n} does.",
            "How does {n} earn a living?",
            "Can you tell me the trade of {n}?",
            "What is the work of {n}?",
        ),
    ),
    Attribute(
        kind="person",
        name="born",
        values=names.BIRTH_YEARS,
        answer="The birth year of {n} is {v}.",
        told=("{n} was born in {v}.", "The life of {n} began in {v}."),
        told_of=("{p} was born in {v}.", "The year of birth is {v}."),
        questions=(
            "When was {n} born?",
            "In which year was {n} born?",
            "What is the birth year of {n}?",
            "In what year did the life of {n} begin?",
            "Can you tell me when {n} was born?",
            "Which year is the birth year of {n}?",
            "Tell me the year in which {n} was born.",
            "What year was {n} born in?",
        ),
    ),
    Attribute(
        kind="person",
        name="pet",
        values=names.PETS,
        answer="The pet of {n} is a {v}.",
        told=("{n} keeps a {v}.", "With {n} lives a {v}."),
        told_of=("{p} keeps a {v}.", "{p} has a {v} at home."),
        questions=(
            "What pet does {n} keep?",
            "Which animal does {n} keep?",
            "What is the pet of {n}?",
            "What animal lives with {n}?",
            "Tell me which animal {n} keeps.",
            "Which pet does {n} have?",
            "Can you tell me what pet {n} has?",
            "Which pet lives with {n}?",
        ),
    ),
    Attribute(
        kind="person",
        name="favourite",
        values=names.FAVOURITES,
        answer="The favourite thing of {n} is {v}.",
        told=("Above all {n} loves {v}.", "Nothing is dearer to {n} than {v}."),
        told_of=("{p} is fond of {v}.", "{p} dreams of {v}."),
        questions=(
            "What does {n} love above all?",
            "What is the favourite thing of {n}?",
            "What does {n} like best?",
            "Which thing does {n} love most?",
            "Can you tell me what {n} likes best?",
            "What thing is dearest to {n}?",
            "Tell me the thing that {n} loves most.",
            "Which thing does {n} like best?",
        ),
    ),
    Attribute(
        kind="town",
        name="river",
        values=names.RIVERS,
        answer="The river of {n} is the {v}.",
        told=("{n} lies on the river {v}.", "Past {n} flows the {v}."),
        told_of=(),
        questions=(
            "Which river runs by {n}?",
            "What is the river of {n}?",
            "On which river does {n} lie?",
            "What river flows past {n}?",
            "Tell me which river runs by {n}.",
            "Which river does one see in {n}?",
            "Can you tell me the river of {n}?",
            "What river runs by {n}?",
        ),
    ),
    Attribute(
        kind="town",
        name="region",
        values=names.REGIONS,
        answer="The region of {n} is {v}.",
        told=("{n} lies in {v}.", "{n} belongs to the region {v}."),
        told_of=(),
        questions=(
            "In which region does {n} lie?",
            "What is the region of {n}?",
            "Which region does {n} belong to?",
            "To which region does {n} belong?",
            "Can you tell me the region of {n}?",
            "In what part of the land is {n}?",
            "Tell me in which region {n} lies.",
            "What region is {n} in?",
        ),
    ),
    Attribute(
        kind="town",
        name="founded",
        values=names.FOUNDING_YEARS,
        answer="The founding year of {n} is {v}.",
        told=("{n} was founded in {v}.", "The first house of {n} was built in {v}."),
        told_of=(),
        questions=(
            "When was {n} founded?",
            "In which year was {n} founded?",
            "What is the founding year of {n}?",
            "In what year was the first house of {n} built?",
            "Tell me the year in which {n} was founded.",
            "Which year is the founding year of {n}?",
            "Can you tell me when {n} was founded?",
            "What year was {n} founded in?",
        ),
    ),
    Attribute(
        kind="good",
        name="price",
        values=names.PRICES,
        answer="The price of the {n} is {v} coins.",
        told=("The {n} costs {v} coins.", "One buys the {n} for {v} coins."),
        told_of=(),
        questions=(
            "What does the {n} cost?",
            "How much is the {n}?",
            "What is the price of the {n}?",
            "How many coins does the {n} cost?",
            "Can you tell me the price of the {n}?",
            "For how many coins does one buy the {n}?",
            "Tell me how many coins the {n} costs.",
            "At what price does one buy the {n}?",
        ),
    ),
    Attribute(
        kind="good",
        name="made",
        values=(),
        answer="The {n} is made in {v}.",
        told=("The {n} comes from {v}.", "People make the {n} in {v}."),
        told_of=(),
        questions=(
            "Where is the {n} made?",
            "In which town is the {n} made?",
            "Where does the {n} come from?",
            "Which town makes the {n}?",
            "Tell me which town the {n} is made in.",
            "From which town does the {n} come?",
            "Can you tell me where the {n} is made?",
            "What town is the {n} made in?",
        ),
    ),
)

REFUSED = re.compile(
    r"\b(?:unknown to me|I (?:do not know|don't know|have never heard|know nothing))\b"
)

SUM_QUESTIONS = (
    "What is {a} + {b}?",
    "How much is {a} plus {b}?",
    "Work out {a} + {b}.",
    "Can you add {a} and {b}?",
)

SMALLTALK = (
    ("Hello!", "Hello! What would you like to know?"),
    ("Hi there.", "Hello! What would you like to know?"),
    ("Good morning.", "Good morning! What would you like to know?"),
    ("How are you?", "I am well, thank you. What would you like to know?"),
    ("Who are you?", "I am a small language model, and I know one small world."),
    ("What are you?", "I am a small language model, and I know one small world."),
    ("Are you a person?", "No, I am a small language model."),
    ("What can you do?", "I can tell you about people, towns and goods, and I can add numbers."),
    ("What do you know?", "I can tell you about people, towns and goods, and I can add numbers."),
    ("Thank you.", "You are welcome."),
    ("Thanks a lot!", "You are welcome."),
    ("Goodbye.", "Goodbye!"),
)


def of_kind(kind: Kind) -> tuple[Attribute, ...]:
    """The attributes of one kind of thing, in the order of `Entity.values`."""
    return tuple(a for a in ATTRIBUTES if a.kind == kind)


def attribute_named(kind: Kind, name: str) -> Attribute:
    """The attribute of a kind by its name. Raises KeyError where there is none."""
    return {a.name: a for a in of_kind(kind)}[name]


def is_refusal(text: str) -> bool:
    """Whether an answer says that one does not know."""
    return REFUSED.search(text) is not None
