"""The validation documents of the run, each foreseen from its beginning.

Bits per byte compare models whatever their tokenizers (The Pile, https://arxiv.org/abs/2101.00027).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from llmkit.errors import InputError
from llmkit.tasks.task import LikelihoodTask, Passage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class BitsPerByteTask(LikelihoodTask):
    """The first `limit` documents of the validation split (1,000 when left out).

    A document begins after an end-of-text token, as in training, and closes with one.
    """

    reads_shards: ClassVar[bool] = True

    def passages(
        self,
        tokenizer: PreTrainedTokenizerFast,
        world: Mapping[str, Any],
        seed: int,
        shards: Path | None,
    ) -> Iterator[Passage]:
        from llmkit.data.tokens.bpe import num_ids
        from llmkit.data.tokens.shards import TokenStream

        if shards is None:
            remedy = "name the tokenize stage with `shards:`"
            raise InputError("bits_per_byte", "the stage has no shards to read", remedy)
        stream, known = TokenStream(shards, "validation"), num_ids(tokenizer)
        if stream.vocab_size != known or stream.eos != tokenizer.eos_token_id:
            raise InputError(
                "bits_per_byte",
                f"the shards were made with a tokenizer of {stream.vocab_size:,} ids, and this "
                f"model's has {known:,}",
                "give the task `models:` with the models of this run alone",
            )
        for document in islice(stream.iter_documents(), self.limit or 1000):
            said = document.tolist()
            num_bytes = len(tokenizer.decode(said[:-1], skip_special_tokens=False).encode())
            if num_bytes:
                yield Passage([stream.eos, *said], [0] + [1] * len(said), num_bytes)
