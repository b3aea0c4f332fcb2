"""What `pretrain` is trained on: the windows of one shard set, or of a mixture of several.

And the gate that nothing of it is what the model is validated on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmkit.data.tokens.contamination import WINDOW, contamination
from llmkit.data.tokens.mixture import MixedWindows, Part
from llmkit.data.tokens.shards import TokenStream, TokenWindows, Windows
from llmkit.ranks import current
from llmkit.stage import Context
from llmkit.trainers.pretrain_settings import ShardSet

MOST_CONTAMINATED = 0.01  # of the validation documents: the same notices stand on many pages


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


def gate_validation(context: Context, training: Windows, validation: TokenStream) -> None:
    """What the model is validated on is not what it is trained on; the same figure on all ranks.

    The set that validates has nothing of it in its own training split: its tokenize stage divided
    the documents by their text, and looked. So only the other sets of a mixture are read.
    """
    sets = training.sets if isinstance(training, MixedWindows) else [training]
    own = validation.folder.resolve()
    others = {
        windows.stream.folder.resolve(): windows.stream
        for windows in sets
        if isinstance(windows, TokenWindows)
    }
    others.pop(own, None)
    bound = f"at most {100 * MOST_CONTAMINATED:g} % of the validation documents"
    measured, passed = "none: its documents were divided by their text", True
    if others:
        label = f"{context.name}: validation text in training text"
        streams = list(others.values())
        trained = TokenStream(own, "train")
        found = current().by_the_first(lambda: contamination(validation, streams, label, trained))
        if not found.judged:
            why = f"no validation document has {WINDOW} tokens that its own training split lacks"
            return context.gate_left_out("validation_not_in_training", why, bound)
        measured, passed = str(found), found.share <= MOST_CONTAMINATED
    remedy = (
        "divide the same documents in the same way (one validation_fraction), or validate on a set "
        "that is trained on"
    )
    context.gate("validation_not_in_training", passed, measured, bound, remedy)
