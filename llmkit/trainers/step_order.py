"""The order of rows in which padding is least while every update stays what it was.

Rows of a batch are padded to the longest of them. Grouping rows by length saves that padding but
makes batches of one kind (all sums, all refusals), and a small model then learns neither. Here the
order is a plain shuffle; only inside the rows of one update, which gradient accumulation cuts into
micro-batches, the long ones come first. Their gradients are summed over tokens, so the update is
the same as without sorting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class StepOrder(Sampler[int]):
    """A shuffle of all rows, another one each epoch, sorted by length within each update.

    Args:
        lengths: tokens of each row.
        rows_per_step: rows of one update, over all ranks and micro-batches.
    """

    def __init__(self, lengths: Sequence[int], rows_per_step: int, seed: int) -> None:
        self.lengths, self.rows_per_step, self.seed = lengths, rows_per_step, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """accelerate says which epoch comes, after a resume too."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        for start in range(0, len(order), self.rows_per_step):
            rows = order[start : start + self.rows_per_step]
            yield from sorted(rows, key=self.lengths.__getitem__, reverse=True)
