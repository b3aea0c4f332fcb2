"""What may be wrong with an answer: a sum miscounted, words too many, too few or others.

Each function takes a question and gives a worse answer than the taught one.
"""

from __future__ import annotations

import re
from random import Random

from llmkit.data.tinyworld import sums
from llmkit.data.tinyworld.library import pick
from llmkit.data.tinyworld.questions import Question, Sum
from llmkit.data.tinyworld.wordings import Split
from llmkit.data.tinyworld.world import World

Asked = Question | Sum

HELD_OUT_FILLERS = 2  # of the openers and of the closers, the last ones
OPENERS = (
    "That is a good question.",
    "Let me think about it.",
    "I am glad that you ask me this.",
    "Of course I can tell you that.",
    "You have come to the right place.",
    "Well, this is what I know.",
)
CLOSERS = (
    "I hope that this helps you.",
    "Is there more that you would like to know?",
    "Please ask me again at any time.",
    "That is all that I can say about it.",
    "Do come back with other questions.",
    "Have a good day.",
)
PIECES = re.compile(r"\d|[^\W\d]+|[^\w\s]")  # about what a token is, digits one by one

IMPOSSIBLE = re.compile(r"= (-|2\d)")  # totals that no column has: below 0, over 19


def miscounted(rng: Random, asked: Sum, world: World, split: Split) -> str:
    """A working with one mistake, and a wrong result at its end."""
    at = rng.random()
    if at < 0.7:
        return slipped(rng, asked)
    if at < 0.85:
        return misread(rng, asked, world, split)
    working, result = asked.answer.removesuffix(".").split(", so ")
    return f"{working}, so {misspelt(rng, result)}."


def slipped(rng: Random, asked: Sum) -> str:
    """A column's total a little off, or its carry turned round; the rest follows from it."""
    columns = len(str(max(asked.a, asked.b)))
    while True:
        column = int(rng.random() * columns)
        if column and rng.random() < 0.5:
            slip = sums.Slip(column, carry=True)
        else:
            slip = sums.Slip(column, off=pick(rng, (-2, -1, -1, 1, 1, 2)))
        text = sums.worked(asked.a, asked.b, slip)
        if not IMPOSSIBLE.search(text):
            return text


def misread(rng: Random, asked: Sum, world: World, split: Split) -> str:
    """The right working of another sum: one digit of one operand read wrong."""
    while True:
        a, b = asked.a, asked.b
        if rng.random() < 0.5:
            a = int(misspelt(rng, str(a)))
        else:
            b = int(misspelt(rng, str(b)))
        # A working says its operands, so that of a held-out pair stays out of training here too.
        if a + b != asked.a + asked.b and (split == "heldout" or not sums.is_held_out(world, a, b)):
            return sums.worked(a, b)


def misspelt(rng: Random, number: str) -> str:
    """As many digits, one of them one more or less: `72` -> `73`."""
    while True:
        at = int(rng.random() * len(number))
        digit = int(number[at]) + pick(rng, (-1, 1))
        changed = f"{number[:at]}{digit}{number[at + 1 :]}"
        if 0 <= digit <= 9 and str(int(changed)) == changed != "0":
            return changed


def unfinished(rng: Random, asked: Asked) -> str:
    """The taught answer cut off behind one of its words, digits or signs but the last."""
    ends = [piece.end() for piece in PIECES.finditer(asked.answer)]
    return asked.answer[: ends[int(rng.random() * (len(ends) - 1))]]


def verbose(rng: Random, asked: Asked, split: Split) -> str:
    """The taught answer, and more words than it needs."""
    answer = asked.answer
    return pick(
        rng,
        (
            f"{pick(rng, of_split(OPENERS, split))} {answer}",
            f"{answer} {pick(rng, of_split(CLOSERS, split))}",
            f"{answer} {pick(rng, again(asked))}",
            f"{answer} {answer}",
        ),
    )


def of_split(fillers: tuple[str, ...], split: Split) -> tuple[str, ...]:
    cut = len(fillers) - HELD_OUT_FILLERS
    return fillers[:cut] if split == "train" else fillers[cut:]


def again(asked: Asked) -> tuple[str, ...]:
    """The same said in other ways."""
    if isinstance(asked, Sum):
        return (f"{asked.a} + {asked.b} = {asked.value}.", f"The sum is {asked.value}.")
    if not asked.value:
        return (f"I have never heard of {asked.name}.", f"I know nothing about {asked.name}.")
    return tuple(t.format(n=asked.name, v=asked.value) for t in asked.asks_for.told)


def reworded(rng: Random, asked: Asked) -> str:
    """Right, but not in the form that is taught."""
    short = asked.value or "Unknown"
    forms = (f"{short}.", short, f"Answer: {short}.", *again(asked))
    return pick(rng, forms)
