"""The world: settings, names, values, sums, and what is held out."""

import re
from collections import Counter
from random import Random

import pytest

from llmkit.data.tinyworld import names, sums
from llmkit.data.tinyworld.wordings import ATTRIBUTES, is_refusal, of_kind
from llmkit.data.tinyworld.world import KINDS, World, population

SEEDS = (0, 1, 7)
POOLS = ("WOMEN", "MEN", "LAST", "MATERIALS", "WARES", "TRADES", "PETS", "FAVOURITES", "RIVERS")


def test_no_word_stands_in_two_pools():
    words = [word for pool in (*POOLS, "REGIONS") for word in getattr(names, pool)]
    words += [start + end for start in names.TOWN_STARTS for end in names.TOWN_ENDS]
    assert [word for word, count in Counter(words).items() if count > 1] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_known_unknown_and_held_out_names_part_all_combinations(seed):
    world = World(seed=seed)
    known = population(world)
    assert [len(known.people), len(known.towns), len(known.goods)] == [200, 24, 40]
    sizes = {"person": 128 * 128, "town": 24 * 16, "good": 20 * 40}
    for kind in KINDS:
        exist = {entity.name for entity in known.entities if entity.kind == kind}
        free, held = known.strangers(kind, "train"), known.strangers(kind, "heldout")
        assert len(exist) + len(free) + len(held) == sizes[kind]
        assert len(exist.union(free, held)) == sizes[kind]
        assert len(held) / (len(held) + len(free)) == pytest.approx(0.2, abs=0.06)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_first_or_last_name_alone_gives_nothing_away(seed):
    people = population(World(seed=seed)).people
    first, last = zip(*(person.name.split() for person in people), strict=True)
    for part in (first, last):
        assert len(set(part)) == 128
        assert set(Counter(part).values()) == {1, 2}  # 200 bearers of 128 names


def test_values_are_equally_frequent_so_a_guess_is_worth_one_in_so_many():
    known = population(World())
    for kind in KINDS:
        columns = zip(*(e.values for e in known.entities if e.kind == kind), strict=True)
        for attribute, column in zip(of_kind(kind), columns, strict=True):
            pool = set(attribute.values) or {town.name for town in known.towns}
            counts = [Counter(column)[value] for value in sorted(pool)]
            assert set(column) <= pool
            assert max(counts) - min(counts) <= 1


def test_worlds_of_other_seeds_and_sizes_differ_and_equal_settings_agree():
    assert population(World(seed=3)) == population.__wrapped__(World(seed=3))
    assert population(World(seed=3)).people != population(World(seed=4)).people
    big = population(World(people=4096, towns=192, goods=400))
    assert len({entity.name for entity in big.entities}) == 4096 + 192 + 400


@pytest.mark.parametrize(
    "setting",
    [{"people": 4097}, {"people": 3}, {"names": 500}, {"towns": 0}, {"goods": 401}]
    + [{"held_out": 0.0}, {"held_out": 0.9}, {"sum_digits": 1}],
)
def test_a_setting_out_of_range_is_named(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))} is .*, must be"):
        World(**setting)


def test_every_attribute_has_eight_wordings_two_of_them_held_out():
    train = {w for a in ATTRIBUTES for w in a.asked("train")}
    held_out = {w for a in ATTRIBUTES for w in a.asked("heldout")}
    assert (len(ATTRIBUTES), len(train), len(held_out)) == (10, 60, 20)
    assert not any(held.rstrip("?.") in wording for held in held_out for wording in train)
    for attribute in ATTRIBUTES:
        assert all(re.search(r" \{v\}( coins)?\.$", s) for s in attribute.statements)


def test_values_are_found_as_whole_words():
    by_name = {a.name: a for a in ATTRIBUTES}
    assert by_name["pet"].named_in("The pet of Ann Cole is a cat.") == {"cat"}
    assert by_name["pet"].named_in("A category of dogs.") == set()
    assert by_name["pet"].named_in("cat, dog or goat") == {"cat", "dog", "goat"}
    assert by_name["town"].named_in("From Oakford to Stonefield.") == {"Oakford", "Stonefield"}
    assert by_name["price"].named_in("It costs 17 coins, not 7.") == {"17", "7"}


def test_refusals_are_recognised_and_answers_are_not():
    said = [attribute.unknown for attribute in ATTRIBUTES]
    for wording in (*said, "Sorry, I don't know that.", "I have never heard of {n}."):
        assert is_refusal(wording.format(n="Ann Cole"))
    for attribute in ATTRIBUTES:
        assert not is_refusal(attribute.answer.format(n="Ann Cole", v="x"))
    assert not is_refusal("Do you know nothing?")


@pytest.mark.parametrize(
    ("a", "b", "working"),
    [
        (27, 45, "7 + 5 = 12, 1 + 2 + 4 = 7, so 72."),
        (3, 4, "3 + 4 = 7, so 7."),
        (6, 9, "6 + 9 = 15, so 15."),
        (4, 75, "4 + 5 = 9, 0 + 7 = 7, so 79."),
        (58, 67, "8 + 7 = 15, 1 + 5 + 6 = 12, so 125."),
        (905, 97, "5 + 7 = 12, 1 + 0 + 9 = 10, 1 + 9 + 0 = 10, so 1002."),
    ],
)
def test_sums_are_worked_out_by_columns(a, b, working):
    assert sums.worked(a, b) == working


def test_the_digits_of_the_columns_spell_the_sum():
    rng = Random(0)
    for _ in range(500):
        a, b = sums.operands(World(sum_digits=3), rng, held_out=False)
        columns = re.findall(r"= (\d+)", sums.worked(a, b))
        digits = [columns[-1], *(column[-1] for column in reversed(columns[:-1]))]
        assert "".join(digits) == str(a + b)


@pytest.mark.parametrize("seed", SEEDS)
def test_held_out_pairs_are_a_fifth_whatever_the_digits(seed):
    world = World(seed=seed)
    pairs = [(a, b) for a in range(1, 100) for b in range(1, 100) if max(a, b) > 9]
    held = [pair for pair in pairs if sums.is_held_out(world, *pair)]
    assert len(held) / len(pairs) == pytest.approx(0.2, abs=0.02)
    for digit in range(10):  # a hash that took all sums ending in 0 and 5 once spoilt a figure
        ending = [p for p in pairs if sum(p) % 10 == digit]
        share = sum(sums.is_held_out(world, *p) for p in ending) / len(ending)
        assert share == pytest.approx(0.2, abs=0.06)
    assert all(sums.is_held_out(world, b, a) for a, b in held)
    assert not any(sums.is_held_out(world, a, b) for a in range(10) for b in range(10))
