"""Several streams as one: one after another, or interleaved by weights.

The order follows from the weights alone, so it is the same in every run and for any number of
workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def mixed(
    streams: Sequence[Iterator[T]], weights: Sequence[float | None]
) -> Iterator[tuple[int, T]]:
    """Yield (number of the stream, item) of all streams, each to its end.

    Without weights one stream follows another. With them the next item comes from the stream that
    is furthest behind its share: the one of the smallest (given + 1) / weight, the first of equals.
    So after n items stream i has given n * w_i / sum(w), to within one item. A stream that ends
    leaves its share to the others; nothing is repeated (`datasets.interleave_datasets` calls that
    all_exhausted_without_replacement). Nothing is drawn ahead of what is yielded.

    Args:
        weights: all of them positive, or all None.
    """
    if all(weight is None for weight in weights):
        for number, stream in enumerate(streams):
            for item in stream:
                yield number, item
        return
    given = [0] * len(streams)
    left = set(range(len(streams)))
    while left:
        number = min(left, key=lambda i: ((given[i] + 1) / (weights[i] or 1.0), i))
        try:
            item = next(streams[number])
        except StopIteration:
            left.remove(number)
            continue
        given[number] += 1
        yield number, item
