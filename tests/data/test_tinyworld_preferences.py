"""Preference pairs of a world: each kind's fault is what it says, and nothing held out leaks."""

import re
from collections import Counter, defaultdict

import pytest

from llmkit.data.tinyworld import sums
from llmkit.data.tinyworld.conversations import Mix, conversations
from llmkit.data.tinyworld.mistakes import CLOSERS, OPENERS
from llmkit.data.tinyworld.preferences import PairMix, preferences
from llmkit.data.tinyworld.questions import questions
from llmkit.data.tinyworld.wordings import attribute_named, is_refusal
from llmkit.data.tinyworld.world import World, population

WORLD = World(seed=5, people=60, names=64)
COUNT = 10_000
TRUTH = {s: {q.text: q for q in questions(WORLD, s)} for s in ("train", "heldout")}
PAIRS = {s: list(preferences(WORLD, COUNT, split=s)) for s in ("train", "heldout")}
NONE = dict.fromkeys(
    ("wrong_sum", "invented", "false_refusal", "verbose", "unfinished", "unasked", "format"), 0.0
)


def of_kind(split, kind):
    """(question, chosen, rejected) of a kind's pairs."""
    rows = [row for row in PAIRS[split] if row["kind"] == kind]
    assert len(rows) > 200
    return [(row["prompt"][0]["content"], row["chosen"], row["rejected"]) for row in rows]


def operands(question):
    a, b = map(int, re.findall(r"\d+", question))
    return a, b


both = pytest.mark.parametrize("split", ["train", "heldout"])


@both
def test_chosen_is_what_conversations_teach(split):
    mix = Mix(unknown=0.3, sums=0.3, smalltalk=0, multi_turn=0)
    taught = {}
    for row in conversations(WORLD, 30_000, split=split, mix=mix):
        taught[row["messages"][0]["content"]] = row["messages"][1]["content"]
    seen = [row for row in PAIRS[split] if row["prompt"][0]["content"] in taught]
    assert len(seen) > COUNT / 2
    for row in seen:
        assert row["chosen"] == taught[row["prompt"][0]["content"]]
    for row in PAIRS[split]:
        assert row["rejected"] and row["rejected"] != row["chosen"]


@both
def test_wrong_values_are_another_things_and_nothing_else_is_wrong(split):
    borne = defaultdict(set)
    for question in TRUTH[split].values():
        borne[question.kind, question.attribute].add(question.value)
    for asked, chosen, rejected in of_kind(split, "wrong_value"):
        fact = TRUTH[split][asked]
        attribute = attribute_named(fact.kind, fact.attribute)
        (said,) = attribute.named_in(rejected.replace(fact.name, ""))
        assert said != fact.value and said in borne[fact.kind, fact.attribute]
        assert rejected == chosen.replace(f" {fact.value}", f" {said}")


def test_every_fact_gets_as_many_wrong_values_as_the_next():
    asked = Counter()
    said = defaultdict(list)
    for question, _, rejected in of_kind("train", "wrong_value"):
        fact = TRUTH["train"][question]
        asked[fact.name, fact.attribute] += 1
        said[fact.name, fact.attribute].append(rejected)
    facts = {(q.name, q.attribute) for q in TRUTH["train"].values()}
    assert set(asked) == facts
    assert max(asked.values()) - min(asked.values()) <= 1
    for name, attribute in facts:
        if attribute != "region":  # of which there are but six
            assert len(set(said[name, attribute])) == len(said[name, attribute])


@both
def test_wrong_sums_end_wrong_by_one_mistake(split):
    faults = Counter()
    for asked, chosen, rejected in of_kind(split, "wrong_sum"):
        a, b = operands(asked)
        assert chosen == sums.worked(a, b)
        *columns, end = rejected.removesuffix(".").split(", ")
        result = int(end.removeprefix("so "))
        assert result != a + b
        sides = [re.fullmatch(r"(1 \+ )?(\d) \+ (\d) = (\d+)", column) for column in columns]
        carry = miscounted = miscarried = 0
        follows, left, right = 0, 0, 0
        for k, side in enumerate(sides):
            had, x, y, total = side[1] is not None, int(side[2]), int(side[3]), int(side[4])
            miscarried += had != bool(carry)
            miscounted += had + x + y != total
            carry = total // 10
            follows += total % 10 * 10**k
            left, right = left + x * 10**k, right + y * 10**k
        follows += carry * 10 ** len(sides)
        misread = (left, right) != (a, b)
        misquoted = result != follows
        assert miscounted + miscarried + misread + misquoted == 1
        faults[(miscounted, miscarried, misread, misquoted).index(1)] += 1
    assert min(faults.values()) > 0.05 * faults.total() and len(faults) == 4


def test_worked_is_right_without_a_slip_and_follows_from_one():
    assert sums.worked(27, 45) == "7 + 5 = 12, 1 + 2 + 4 = 7, so 72."
    assert sums.worked(67, 45) == "7 + 5 = 12, 1 + 6 + 4 = 11, so 112."
    assert sums.worked(0, 0) == "0 + 0 = 0, so 0."
    dropped = sums.worked(27, 45, sums.Slip(1, carry=True))
    assert dropped == "7 + 5 = 12, 2 + 4 = 6, so 62."
    added = sums.worked(21, 45, sums.Slip(1, carry=True))
    assert added == "1 + 5 = 6, 1 + 2 + 4 = 7, so 76."
    assert sums.worked(27, 42, sums.Slip(0, off=1)) == "7 + 2 = 10, 1 + 2 + 4 = 7, so 70."
    assert sums.worked(95, 14, sums.Slip(1, off=-1)) == "5 + 4 = 9, 9 + 1 = 9, so 99."


@both
def test_refusals_stand_on_the_right_side(split):
    known = {entity.name for entity in population(WORLD).entities}
    for asked, chosen, rejected in of_kind(split, "invented"):
        assert is_refusal(chosen) and not is_refusal(rejected)
        assert asked not in TRUTH[split] and not any(f" {name} " in rejected for name in known)
    for asked, chosen, rejected in of_kind(split, "false_refusal"):
        assert is_refusal(rejected) and not is_refusal(chosen)
        assert TRUTH[split][asked].name in rejected


@both
def test_words_too_many_and_too_few(split):
    for _, chosen, rejected in of_kind(split, "verbose"):
        assert chosen in rejected and len(rejected) >= len(chosen) + 8
    cuts = of_kind(split, "unfinished")
    for _, chosen, rejected in cuts:
        assert chosen.startswith(rejected) and 0 < len(rejected) < len(chosen)
        assert re.match(r"\W|\d", chosen[len(rejected)]) or rejected[-1].isdigit()
    rows = [row for row in PAIRS[split] if row["kind"] == "unfinished"]
    unended = sum(not row["rejected_ended"] for row in rows)
    assert unended / len(rows) == pytest.approx(0.5, abs=0.1)
    assert all(row["rejected_ended"] for row in PAIRS[split] if row["kind"] != "unfinished")


@both
def test_what_was_not_asked_is_true(split):
    taught = set()
    for question in TRUTH[split].values():
        taught.add((question.name, question.answer))
    for asked, _, rejected in of_kind(split, "unasked"):
        if re.match(r"\d", rejected):
            assert rejected != sums.worked(*operands(asked))
        else:
            assert any(rejected == answer for _, answer in taught)


def test_another_form_says_nothing_wrong():
    for asked, chosen, rejected in of_kind("train", "format"):
        if asked in TRUTH["train"]:
            fact = TRUTH["train"][asked]
            assert re.search(rf"\b{fact.value}\b", rejected)
        elif not is_refusal(chosen):
            assert re.findall(r"\d+", rejected)[-1] == str(sum(operands(asked)))
        else:
            assert is_refusal(rejected) or "Unknown" in rejected


def test_nothing_held_out_is_in_training():
    """Neither wordings, names without a bearer, operand pairs, workings nor fillers."""
    asked = {s: {row["prompt"][0]["content"] for row in PAIRS[s]} for s in PAIRS}
    assert not asked["train"] & asked["heldout"]
    assert not asked["train"] & set(TRUTH["heldout"])
    held_out = {name for names in population(WORLD).held_out.values() for name in names}
    pairs = [(a, b) for a in range(1, 100) for b in range(1, 100) if max(a, b) > 9]
    workings = {sums.worked(a, b) for a, b in pairs if sums.is_held_out(WORLD, a, b)}
    assert len(held_out) > 500 and len(workings) > 1500
    name = re.compile(r"[A-Z][a-z]+ [A-Z][a-z]+|[a-z]+ [a-z]+|[A-Z][a-z]+")
    named = 0
    for row in PAIRS["train"]:
        texts = (row["prompt"][0]["content"], row["chosen"], row["rejected"])
        for text in texts:
            words = set(re.findall(name, text)) | two_words(text)
            assert not words & held_out
            named += bool(words)
            assert not any(filler in text for filler in (*OPENERS[-2:], *CLOSERS[-2:]))
        assert not {row["chosen"], row["rejected"]} & workings
        if re.search(r"\d+ (\+|plus|and) \d+", texts[0]):
            assert not sums.is_held_out(WORLD, *operands(texts[0]))
    assert named > COUNT
    in_held_out = set()
    for row in PAIRS["heldout"]:
        in_held_out |= two_words(row["chosen"]) & held_out
    assert len(in_held_out) > 300


def two_words(text):
    """Every two words that follow one another: a person's or a good's name is such."""
    words = re.findall(r"\w+", text)
    return {f"{one} {two}" for one, two in zip(words, words[1:], strict=False)}


@both
def test_length_gives_nothing_away(split):
    """A judge that takes the shorter (or the longer) answer is right half of the time."""
    pieces = re.compile(r"\d|[^\W\d]+|[^\w\s]")
    for size in (len, lambda text: len(pieces.findall(text))):
        shorter = 0.0
        for row in PAIRS[split]:
            chosen, rejected = size(row["chosen"]), size(row["rejected"])
            shorter += (chosen < rejected) + 0.5 * (chosen == rejected)
        assert 0.46 < shorter / COUNT < 0.54


def test_the_mix_is_as_asked():
    kinds = Counter(row["kind"] for row in PAIRS["train"])
    assert set(kinds) == {"wrong_value", *NONE}
    assert kinds["wrong_value"] / COUNT == pytest.approx(0.36, abs=0.02)
    assert kinds["wrong_sum"] / COUNT == pytest.approx(0.24, abs=0.02)
    mix = PairMix(**NONE | {"invented": 0.3, "verbose": 0.2})
    kinds = Counter(row["kind"] for row in preferences(WORLD, 3000, mix=mix))
    assert set(kinds) == {"wrong_value", "invented", "verbose"}
    assert kinds["invented"] / 3000 == pytest.approx(0.3, abs=0.03)
    PairMix(**NONE | {"invented": 0.7, "verbose": 0.2, "format": 0.1})  # 1, and a little more


@pytest.mark.parametrize("bad", [{"verbose": -0.1}, {"wrong_sum": 0.9}])
def test_an_impossible_mix_is_refused(bad):
    with pytest.raises(ValueError, match="shares of preferences"):
        PairMix(**bad)


def test_seeds_differ_and_the_same_seed_agrees_and_streams():
    assert list(preferences(WORLD, 50)) == list(preferences(WORLD, 50))
    assert list(preferences(WORLD, 50)) != list(preferences(WORLD, 50, seed=1))
    assert next(preferences(WORLD, 10**12))["kind"]


@pytest.mark.parametrize("digits", [2, 9])
def test_the_smallest_world_has_pairs_of_every_kind(digits):
    world = World(people=20, towns=4, goods=8, names=16, sum_digits=digits)
    for split in ("train", "heldout"):
        rows = list(preferences(world, 600, split=split))
        assert len({row["kind"] for row in rows}) == 8
        assert all(row["chosen"] != row["rejected"] for row in rows)
