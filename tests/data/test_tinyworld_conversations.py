"""Conversations: their form, their mix, their truth, and their two splits."""

import re
from collections import Counter

import pytest

from llmkit.data.tinyworld import sums
from llmkit.data.tinyworld.conversations import Mix, conversations
from llmkit.data.tinyworld.questions import questions, unknown_questions
from llmkit.data.tinyworld.wordings import ATTRIBUTES, SMALLTALK, is_refusal
from llmkit.data.tinyworld.world import World, population

WORLD = World(seed=5)


def turns(rows):
    """(question, answer) of every turn."""
    for row in rows:
        said = [message["content"] for message in row["messages"]]
        yield from zip(said[::2], said[1::2], strict=True)


def sort_of(question: str, answer: str) -> str:
    if (question, answer) in SMALLTALK:
        return "smalltalk"
    if is_refusal(answer):
        return "unknown"
    return "sums" if re.search(r"\d+ (\+|and|plus) \d+", question) else "fact"


def test_rows_have_trl_form_and_alternate():
    for row in conversations(WORLD, 500):
        assert list(row) == ["messages"]
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert 2 <= len(roles) <= 6
        assert all(message["content"].strip() for message in row["messages"])


def test_the_mix_is_as_asked():
    mix = Mix(unknown=0.3, sums=0.25, smalltalk=0.05, multi_turn=0.4)
    rows = list(conversations(WORLD, 4000, mix=mix))
    said = list(turns(rows))
    shares = Counter(sort_of(*turn) for turn in said)
    for sort, share in (("unknown", 0.3), ("sums", 0.25), ("smalltalk", 0.05), ("fact", 0.4)):
        assert shares[sort] / len(said) == pytest.approx(share, abs=0.03)
    assert sum(len(row["messages"]) > 2 for row in rows) / 4000 == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("bad", [{"unknown": -0.1}, {"sums": 0.95}, {"multi_turn": 2.0}])
def test_an_impossible_mix_is_refused(bad):
    with pytest.raises(ValueError, match="shares of conversations"):
        Mix(**bad)


def test_seeds_differ_and_the_same_seed_agrees_and_streams():
    assert list(conversations(WORLD, 50)) == list(conversations(WORLD, 50))
    assert list(conversations(WORLD, 50)) != list(conversations(WORLD, 50, seed=1))
    assert next(conversations(WORLD, 10**12))["messages"]


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_answers_are_true_and_only_what_does_not_exist_is_refused(split):
    truth = {q.text: q for q in questions(WORLD, split)}
    known = {entity.name for entity in population(WORLD).entities}
    strangers = population(WORLD).strangers("person", split)
    attributes = {(a.kind, a.name): a for a in ATTRIBUTES}
    asked, people = set(), set()
    for question, answer in turns(conversations(WORLD, 6000, split=split)):
        sort = sort_of(question, answer)
        if sort == "fact":
            fact = truth[question]
            assert attributes[fact.kind, fact.attribute].named_in(answer) == {fact.value}
            assert fact.name in answer
            asked.add((fact.name, fact.attribute))
        elif sort == "unknown":
            said = answer.removesuffix(" is unknown to me.").split(" of ")[-1]
            name = re.sub("^[Tt]he ", "", said)
            assert name in question and name not in known
            people |= {name} if name[0].isupper() and " " in name else set()
        elif sort == "sums":
            a, b = map(int, re.findall(r"\d+", question))
            assert answer == sums.worked(a, b)
            assert sums.is_held_out(WORLD, a, b) == (split == "heldout")
    assert len(asked) == 200 * 5 + 24 * 3 + 40 * 2  # every fact before one comes again
    assert people <= set(strangers)
    assert len(people) > 350  # variety is what makes a model refuse the right ones


def test_questions_cover_every_fact_in_every_wording_of_the_split():
    for split, wordings in (("train", 6), ("heldout", 2)):
        asked = list(questions(WORLD, split))
        assert len(asked) == len({q.text for q in asked}) == 1152 * wordings
    assert not {q.text for q in questions(WORLD, "train")} & {q.text for q in questions(WORLD)}


def test_unknown_questions_ask_once_about_each_held_out_name():
    held = population(WORLD).held_out
    asked = list(unknown_questions(WORLD))
    assert Counter(q.name for q in asked) == Counter(n for names in held.values() for n in names)
    assert all(q.name in q.text and q.value == "" for q in asked)
    assert {q.attribute for q in asked} == {a.name for a in ATTRIBUTES}
