"""What `pretrain` is trained on: the windows of one shard set, or of a mixture of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmkit.data.tokens.mixture import MixedWindows, Part
from llmkit.data.tokens.shards import TokenWindows, Windows
from llmkit.trainers.pretrain_settings import ShardSet


def training_windows(
    shards: Path | str,
    mixture: Sequence[tuple[Path | str, ShardSet]],
    context_length: int,
    seed: int,
    num_samples: int | None,
    document_masking: bool,
) -> Windows:
    """So many windows of `shards`, or of the folders of `mixture` where there are any.

    Without `num_samples`, one epoch. A mixture by epochs is as long as these say in any case, and
    one by weights cannot do without.
    """
    if not mixture:
        return TokenWindows(shards, "train", context_length, seed, num_samples, document_masking)
    parts = [
        Part(folder=folder, weight=part.weight, epochs=part.epochs) for folder, part in mixture
    ]
    number = None if parts[0].weight is None else num_samples
    return MixedWindows(parts, context_length, seed, number, document_masking)
