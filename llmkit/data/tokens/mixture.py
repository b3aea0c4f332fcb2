"""Several shard sets as one training set: by weight or by epochs, each place computed alone.

Over all N samples set k gives n_k of them. They are dealt evenly: of the first i blocks of BLOCK
samples, set k has floor(n_k * i / blocks), so that at any time each has had its share to within
two samples a block, and its own windows come in its own order, epoch after epoch. Within a block
the sets are shuffled by a permutation. Index i alone says what is read, as in `TokenWindows`, so a
resumed run goes on from the number of samples seen, whatever its workers and ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from llmkit.data.tokens.permutation import Permutation
from llmkit.data.tokens.shards import TokenWindows, Windows
from llmkit.errors import InputError

BLOCK = 4096  # samples
REMEDY = "give every set a weight, or every set epochs"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A shard set with its share of the samples, or how often it is read through.

    Attributes:
        folder: of a tokenize stage.
        weight: relative to the other sets' weights; what share of all samples it gives.
        epochs: times that it is read; 0.5 is the half of it.
    """

    folder: Path | str
    weight: float | None = None
    epochs: float | None = None


class MixedWindows(Windows):
    """Training windows of several shard sets, in the rows that `TokenWindows` gives.

    Args:
        parts: the sets, all of one vocabulary.
        context_length: tokens in a window.
        seed: of the order within and among the sets.
        num_samples: needed with weights; with epochs it follows from them.
        document_masking: as in `TokenWindows`.

    Raises:
        InputError: weights and epochs are mixed, or none are given, or vocabularies differ.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        context_length: int,
        seed: int = 0,
        num_samples: int | None = None,
        document_masking: bool = False,
    ) -> None:
        self.context_length, self.seed = context_length, seed
        self.sets = [
            TokenWindows(
                part.folder, "train", context_length, seed, document_masking=document_masking
            )
            for part in parts
        ]
        _one_vocabulary(parts, self.sets)
        if all(part.epochs is not None for part in parts) and parts and num_samples is None:
            shares = [_of(part.epochs) * len(s) for part, s in zip(parts, self.sets, strict=True)]
            self.samples = np.array([round(share) for share in shares], dtype=np.int64)
        elif all(part.weight is not None for part in parts) and parts and num_samples:
            self.samples = by_weight([_of(part.weight) for part in parts], num_samples)
        else:
            raise InputError("shards", "weights and epochs do not say how much of each", REMEDY)
        for windows, count in zip(self.sets, self.samples.tolist(), strict=True):
            windows.num_samples = count
        self.num_samples = int(self.samples.sum())
        self.blocks = max(1, -(-self.num_samples // BLOCK))
        self._known: tuple[int, tuple[int, NDArray[np.int64], NDArray[np.int64]]] | None = None

    def __len__(self) -> int:
        return self.num_samples

    def batch(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """The windows at `indices` stacked, as `TokenWindows.batch` does."""
        numbers, places = self.places(np.asarray(indices, dtype=np.int64))
        stacked: dict[str, torch.Tensor] = {}
        for number, windows in enumerate(self.sets):
            rows = np.flatnonzero(numbers == number)
            if not len(rows):
                continue
            for name, values in windows.read(places[rows]).items():
                if name not in stacked:
                    stacked[name] = values.new_empty((len(numbers), self.context_length))
                stacked[name][torch.from_numpy(rows)] = values
        return stacked

    def places(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which set stands at each index, and which window of it: both of the indices' shape."""
        if indices.size and not 0 <= indices.min() <= indices.max() < self.num_samples:
            raise IndexError(f"index outside the {self.num_samples} samples")
        numbers, places = np.empty_like(indices), np.empty_like(indices)
        # Rounding down lets a block begin up to a sample a set before its even place.
        blocks = indices * self.blocks // max(self.num_samples, 1)
        blocks += self._dealt(blocks + 1).sum(axis=1) <= indices
        for number in sorted(set(blocks.tolist())):
            here = blocks == number
            first, of_block, in_set = self._block(number)
            numbers[here] = of_block[indices[here] - first]
            places[here] = in_set[indices[here] - first]
        return numbers, places

    def _block(self, block: int) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
        """The first index of a block; the set and the window of each of its samples."""
        if self._known is None or self._known[0] != block:
            before, after = self._dealt(np.array([block, block + 1]))
            counts = after - before
            order = Permutation(int(counts.sum()), self.seed, block)
            at = order(np.arange(counts.sum()))
            ends = np.cumsum(counts)
            numbers = np.searchsorted(ends, at, side="right")
            samples = before[numbers] + at - (ends - counts)[numbers]
            places = np.empty_like(samples)
            for number, windows in enumerate(self.sets):
                own = numbers == number
                places[own] = windows.places(samples[own])
            self._known = (block, (int(before.sum()), numbers, places))
        return self._known[1]

    def _dealt(self, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Samples that each set has given when so many blocks are over: (blocks, sets)."""
        dealt: NDArray[np.int64] = self.samples[None, :] * blocks[:, None] // self.blocks
        return dealt


def by_weight(weights: Sequence[float], num_samples: int) -> NDArray[np.int64]:
    """Whole samples for each weight that add up to `num_samples`, by the largest remainders.

    Raises:
        InputError: a weight is not positive.
    """
    if not all(weight > 0 for weight in weights):
        raise InputError("shards", f"weights {list(weights)} are not all positive", REMEDY)
    shares = np.array(weights) / sum(weights) * num_samples
    samples = np.floor(shares).astype(np.int64)
    missing = num_samples - int(samples.sum())
    samples[np.argsort(samples - shares, kind="stable")[:missing]] += 1
    return samples


def _of(value: float | None) -> float:
    assert value is not None
    return value


def _one_vocabulary(parts: Sequence[Part], sets: Sequence[TokenWindows]) -> None:
    known = {(windows.stream.vocab_size, windows.stream.eos) for windows in sets}
    if len(known) > 1:
        what = f"vocabularies and end-of-text ids differ: {sorted(known)}"
        folders = ", ".join(str(part.folder) for part in parts)
        raise InputError(folders, what, "encode all of them with one tokenizer")
