"""The shuffle is a bijection for every size, is fixed for all time, and looks like chance."""

import numpy as np
import pytest

from llmkit.data.tokens.permutation import Permutation


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 9, 10, 97, 100, 101, 1000, 65_537])
def test_every_size_is_a_bijection(n):
    for epoch in range(3):
        assert sorted(Permutation(n, seed=7, epoch=epoch)(np.arange(n))) == list(range(n))


def test_seed_and_epoch_each_give_another_order():
    orders = [
        tuple(Permutation(200, seed, epoch)(np.arange(200))) for seed in (0, 1) for epoch in (0, 1)
    ]
    assert len(set(orders)) == 4
    assert orders[0] != tuple(range(200))


def test_one_index_alone_is_the_same_as_among_all():
    permutation = Permutation(1000, seed=3)
    whole = permutation(np.arange(1000))
    assert [int(permutation(np.array([i]))[0]) for i in range(1000)] == whole.tolist()


def test_the_order_is_part_of_the_format():
    """Worked out with Python's own integers from the formulas in the module's docstring."""
    import hashlib

    n, seed, epoch, side = 10, 5, 2, 4
    digest = hashlib.blake2b(b"5/2", digest_size=48).digest()
    keys = [int.from_bytes(digest[i : i + 8], "little") for i in range(0, 48, 8)]

    def mix(x):
        x = (x + 0x9E3779B97F4A7C15) % 2**64
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
        return x ^ (x >> 31)

    def place(i):
        left, right = divmod(i, side)
        for key in keys:
            left, right = right, (left + mix(right ^ key) % side) % side
        i = left * side + right
        return i if i < n else place(i)

    assert Permutation(n, seed, epoch)(np.arange(n)).tolist() == [place(i) for i in range(n)]


def test_places_are_uniform_and_neighbours_part():
    n, keys = 12, 2400
    places = np.array([Permutation(n, seed)(np.arange(n)) for seed in range(keys)])
    for i in range(n):
        counts = np.bincount(places[:, i], minlength=n)
        chi2 = ((counts - keys / n) ** 2 / (keys / n)).sum()
        assert chi2 < 40  # 11 degrees of freedom: once in 30,000
    big = Permutation(100_000, seed=1)(np.arange(100_000))
    # Of random places the distance between neighbours is n/3 on average.
    assert abs(np.abs(np.diff(big)).mean() / 100_000 - 1 / 3) < 0.01
    assert abs(np.corrcoef(big, np.arange(100_000))[0, 1]) < 0.02


def test_a_thousand_million_million_need_no_memory():
    places = Permutation(10**15, seed=0)(np.arange(10**15 - 1000, 10**15))
    assert len(set(places.tolist())) == 1000
    assert 0 <= places.min() and places.max() < 10**15


def test_nothing_cannot_be_permuted():
    with pytest.raises(ValueError, match="cannot permute 0"):
        Permutation(0, seed=0)
