"""Reading token shards: windows for a model, in a seeded order that a resumed run can go on with.

`TokenWindows` is a map-style data set in which index i alone says what is read: epoch i // n, and
within it the i % n-th place of that epoch's permutation. With a sequential sampler, the position
after a resume is therefore just the number of samples seen, whatever the number of workers.

Bits per byte of the validation split, from its windows:

    bits_per_byte = sum over predicted tokens of -ln p(token) / (ln 2 * stream.bytes)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from llmkit.data.tokens.packing import position_ids
from llmkit.data.tokens.permutation import Permutation
from llmkit.data.tokens.shard_files import memmapped, read_index, shards_of
from llmkit.errors import InputError

CHUNK = 1024  # indices
IGNORED = -100  # the label that PyTorch's cross-entropy leaves out


class TokenStream:
    """The shards of one split as one long row of tokens, memory-mapped.

    Attributes:
        tokens, documents, bytes: of the split; bytes are those of the text, in UTF-8.
        eos: the id that closes every document.
    """

    def __init__(self, folder: Path | str, split: str) -> None:
        self.folder, self.split = Path(folder), split
        index = read_index(self.folder)
        if split not in index["splits"]:
            raise InputError(str(folder), f"no split {split!r}", "there are train and validation")
        entry = index["splits"][split]
        self.tokens: int = entry["tokens"]
        self.documents: int = entry["documents"]
        self.bytes: int = entry["bytes"]
        self.eos: int = index["eos_token_id"]
        self.vocab_size: int = index["vocab_size"]
        self._shards = shards_of(index, split)
        self._maps: list[NDArray[Any]] = [
            # As a plain array: slicing one is several times quicker than slicing a memmap.
            np.asarray(memmapped(self.folder, shard, index))
            for shard in self._shards
        ]
        self._ends = list(accumulate(len(shard) for shard in self._maps))
        self._starts = [0, *self._ends]

    def __reduce__(self) -> tuple[Any, ...]:
        """Workers open the files anew instead of being sent their contents."""
        return TokenStream, (self.folder, self.split)

    def windows(self, starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """`length` tokens from each of `starts` (B,), all within the stream: (B, length)."""
        out: NDArray[np.int64] = np.empty((len(starts), length), dtype=np.int64)
        for row, start in enumerate(starts.tolist()):
            number = bisect_right(self._ends, start)
            if start + length <= self._ends[number]:
                at = start - self._starts[number]
                out[row] = self._maps[number][at : at + length]
            else:
                out[row] = self._across(start, number, length)
        return out

    def _across(self, start: int, number: int, length: int) -> NDArray[np.int64]:
        """A window that begins in shard `number` and ends in another."""
        parts, left = [], length
        at = start - self._starts[number]
        while left:
            part = self._maps[number][at : at + left]
            parts.append(part)
            left -= len(part)
            number, at = number + 1, 0
        return np.concatenate(parts).astype(np.int64)

    def iter_documents(self) -> Iterator[NDArray[Any]]:
        """The ids of every document, its end-of-text included, in the order of the files."""
        for shard, tokens in zip(self._shards, self._maps, strict=True):
            ends = np.load(self.folder / shard.ends_file).astype(np.int64)
            yield from np.split(tokens, ends[:-1])


class Windows(Dataset[dict[str, torch.Tensor]]):
    """Rows that are read a batch at a time."""

    def batch(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """The rows at `indices`, stacked under each name."""
        raise TypeError(f"{type(self).__name__} does not say how it reads")

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        """A batch at once, which PyTorch's fetcher asks for where it can."""
        batch = self.batch(indices)
        columns = [tensor.unbind() for tensor in batch.values()]
        return [dict(zip(batch, row, strict=True)) for row in zip(*columns, strict=True)]


class TokenWindows(Windows):
    """Windows of `context_length` tokens: `{"input_ids": (L,), "labels": (L,)}`, int64.

    With `document_masking`, `"position_ids": (L,)` too, which begin again at each document: what
    transformers' flash attention takes to keep a packed window's documents apart
    (`llmkit.data.tokens.packing` has the boundaries). A training label that stands at position 0
    is then -100, since nothing of its own document comes before it.

    train: the stream cut every `context_length` tokens (a shorter rest is left out), in another
    order in each epoch. Labels are the inputs; the model shifts them, so a window trains L - 1.

    validation: in order, every token of the stream predicted exactly once. The stream is read
    behind one end-of-text token, neighbouring windows share a token, and the last one is filled up
    with end-of-text, labelled -100. Then `predicted` equals `stream.tokens`.

    Args:
        folder: of a tokenize stage.
        split: `train` or `validation`.
        context_length: tokens in a window.
        seed: of the order of training windows; validation has none.
        num_samples: the length of the data set; one epoch when left out.
        document_masking: add `position_ids`.

    Raises:
        InputError: the folder is no folder of shards, or the split does not fill one window.
    """

    def __init__(
        self,
        folder: Path | str,
        split: str,
        context_length: int,
        seed: int = 0,
        num_samples: int | None = None,
        document_masking: bool = False,
    ) -> None:
        self.document_masking = document_masking
        self.stream = TokenStream(folder, split)
        self.context_length, self.seed, self.in_order = context_length, seed, split == "validation"
        if self.in_order:
            self.windows_per_epoch = -(-self.stream.tokens // (context_length - 1))
        else:
            self.windows_per_epoch = self.stream.tokens // context_length
        if self.windows_per_epoch == 0:
            what = f"{split} has {self.stream.tokens:,} tokens, fewer than one window"
            remedy = f"use more documents or a context_length below {context_length}"
            if self.in_order:
                remedy = "set validation_fraction of the tokenize stage above 0"
            raise InputError(str(folder), what, remedy)
        self.num_samples = self.windows_per_epoch if num_samples is None else num_samples
        self._orders: dict[int, Permutation] = {}
        self._chunk: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, dtype=np.int64))

    @property
    def predicted(self) -> int:
        """Tokens that one epoch predicts: labels, after the model's shift, that are not -100."""
        if self.in_order:
            return self.stream.tokens
        return self.windows_per_epoch * (self.context_length - 1)

    def __len__(self) -> int:
        return self.num_samples

    def batch(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """The windows at `indices` stacked: `{"input_ids": (B, L), "labels": (B, L)}`, int64.

        With `document_masking`, `"position_ids": (B, L)` as well.
        """
        asked = np.asarray(indices, dtype=np.int64)
        if asked.size and not 0 <= asked.min() <= asked.max() < self.num_samples:
            raise IndexError(f"index outside the {self.num_samples} samples")
        return self.read(asked % self.windows_per_epoch if self.in_order else self.places(asked))

    def read(self, places: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """The windows that stand at `places` of the stream, stacked as in `batch`."""
        if self.in_order:
            batch = self._validation_batch(places)
        else:
            starts = places * self.context_length
            ids = torch.from_numpy(self.stream.windows(starts, self.context_length))
            batch = {"input_ids": ids, "labels": ids}
        if self.document_masking:
            positions = torch.from_numpy(position_ids(batch["input_ids"].numpy(), self.stream.eos))
            batch["position_ids"] = positions
            if not self.in_order:
                batch["labels"] = batch["labels"].masked_fill(positions == 0, IGNORED)
        return batch

    def places(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which window of the stream stands at each index, by the permutation of its epoch.

        A reader that goes forward has CHUNK of them worked out at once.
        """
        first, last = (int(indices[0]), int(indices[-1])) if len(indices) else (0, 0)
        if (
            not len(indices) > 1
            or last - first != len(indices) - 1
            or last // CHUNK != first // CHUNK
        ):
            return self._places(indices)
        begin = first // CHUNK * CHUNK
        if self._chunk[0] != begin:
            self._chunk = begin, self._places(np.arange(begin, begin + CHUNK, dtype=np.int64))
        found: NDArray[np.int64] = self._chunk[1][indices - begin]
        return found

    def _places(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        epochs, within = np.divmod(indices, self.windows_per_epoch)
        places = np.empty_like(within)
        for epoch in np.unique(epochs).tolist():
            if epoch not in self._orders:
                self._orders = {epoch: Permutation(self.windows_per_epoch, self.seed, epoch)}
            chosen = epochs == epoch
            places[chosen] = self._orders[epoch](within[chosen])
        return places

    def _validation_batch(self, numbers: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """Window k is tokens [k(L-1) - 1, (k+1)(L-1)) of the stream, token -1 being end-of-text."""
        length = self.context_length
        ids: NDArray[np.int64] = np.full((len(numbers), length), self.stream.eos, dtype=np.int64)
        labels: NDArray[np.int64] = np.full_like(ids, IGNORED)
        for row, number in enumerate(numbers.tolist()):
            first = number * (length - 1) - 1
            stop = min(first + length, self.stream.tokens)
            skipped = 1 if first < 0 else 0
            part = self.stream.windows(np.array([first + skipped]), stop - first - skipped)[0]
            ids[row, skipped : stop - first] = part
            labels[row, : stop - first] = ids[row, : stop - first]
        return {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}
