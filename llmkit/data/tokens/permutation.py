"""A seeded shuffle of [0, n) that needs no memory: the place of one index is computed alone.

A Feistel network on pairs (left, right) with modular addition is a bijection on a^2 numbers
whatever its round function is; walking its cycle until it lands below n makes it one on [0, n)
(Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002). With a = ceil(sqrt(n)),
a^2 exceeds n by at most 2 sqrt(n), so hardly anything walks twice.

One round: (left, right) -> (right, (left + hash(right, key)) mod a).
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6


class Permutation:
    """A bijection of [0, n), chosen by `(seed, epoch)`; same arguments, same order, any machine."""

    def __init__(self, n: int, seed: int, epoch: int = 0) -> None:
        if not 0 < n < 2**62:
            raise ValueError(f"cannot permute {n} numbers")
        self.n = n
        self._side = np.uint64(math.isqrt(n - 1) + 1)
        digest = hashlib.blake2b(f"{seed}/{epoch}".encode(), digest_size=8 * ROUNDS).digest()
        self._keys = np.frombuffer(digest, dtype="<u8").astype(np.uint64)

    def __call__(self, indices: NDArray[np.integer]) -> NDArray[np.int64]:
        """Where each of `indices` (any shape, in [0, n)) goes: int64 of the same shape."""
        places = self._once(np.asarray(indices).astype(np.uint64))
        outside = places >= self.n
        while outside.any():
            places[outside] = self._once(places[outside])
            outside = places >= self.n
        return places.astype(np.int64)

    def _once(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = numbers // self._side, numbers % self._side
        for key in self._keys:
            left, right = right, (left + _mix(right ^ key) % self._side) % self._side
        return left * self._side + right


def _mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64 (https://prng.di.unimi.it/splitmix64.c); wraps at 64 bits."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
