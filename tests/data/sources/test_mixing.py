"""Mixing: shares hold at every moment, nothing is lost, and nothing is drawn ahead."""

import random
from fractions import Fraction

import pytest

from llmkit.data.sources.mixing import mixed


def streams(*sizes):
    return [iter([(number, k) for k in range(size)]) for number, size in enumerate(sizes)]


def test_without_weights_one_follows_another():
    assert [number for number, _ in mixed(streams(2, 0, 3), [None] * 3)] == [0, 0, 2, 2, 2]


def test_three_to_one_by_hand():
    taken = [number for number, _ in mixed(streams(6, 2), [3, 1])]
    assert taken == [0, 0, 0, 1, 0, 0, 0, 1]


@pytest.mark.parametrize("seed", range(5))
def test_every_beginning_has_the_shares_to_within_one_item_a_stream(seed):
    rng = random.Random(seed)
    weights = [rng.randint(1, 20) for _ in range(4)]
    taken = [number for number, _ in mixed(streams(*[400] * 4), weights)][:400]
    for length in range(1, 401):
        for number, weight in enumerate(weights):
            share = Fraction(length * weight, sum(weights))
            assert abs(taken[:length].count(number) - share) <= len(weights) - 1


def test_each_stream_keeps_its_order_and_gives_all_it_has():
    found = list(mixed(streams(50, 7, 0), [0.2, 5, 1]))
    assert sorted(item for _, item in found) == sorted(x for s in streams(50, 7, 0) for x in s)
    for stream in range(3):
        own = [item for number, item in found if number == stream]
        assert own == sorted(own) and all(item[0] == stream for item in own)


def test_nothing_is_drawn_ahead():
    drawn = []

    def stream(name):
        while True:
            drawn.append(name)
            yield name

    mix = mixed([stream("a"), stream("b")], [1, 1])
    assert [next(mix)[1] for _ in range(3)] == drawn == ["a", "b", "a"]
