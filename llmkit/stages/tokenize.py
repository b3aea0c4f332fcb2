"""tokenize: documents -> memory-mapped shards of token ids, split in training and validation.

Which documents validate is decided by their text (`llmkit.data.holdout`). The layout of the files
stands in `llmkit.data.shard_files`, their reader in `llmkit.data.shards`. After a kill the finished
shards stay, and the rest comes out in the same bytes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from llmkit.errors import InputError, Problem
from llmkit.schema import Refers
from llmkit.stage import Context, Facts, Stage

if TYPE_CHECKING:
    from llmkit.data.holdout import Holdout
    from llmkit.data.shard_files import ShardWriter

BATCH_BYTES = 2_000_000  # of text encoded at once: enough for all cores, little memory


@dataclass(frozen=True, kw_only=True)
class Tokenize(Stage):
    """Encode documents into shards.

    Attributes:
        documents: the stage whose texts are encoded.
        tokenizer: the stage, folder or Hub id that encodes them.
        context_length: tokens in the windows that the model will read.
        validation_fraction: of the documents, held out by a hash of their text. The document of
            the smallest hash is held out in any case, unless the fraction is 0.
        shard_tokens: a shard is closed by the document that reaches so many tokens.
    """

    makes: ClassVar[tuple[str, ...]] = ("shards",)
    libraries: ClassVar[tuple[str, ...]] = ("tokenizers",)

    documents: Annotated[str | None, Refers("documents")] = None
    tokenizer: Annotated[str | None, Refers("tokenizer")] = None
    context_length: int
    validation_fraction: float = 0.01
    shard_tokens: int = 100_000_000

    def facts(self, upstream: Mapping[str, Facts]) -> Facts:
        known = upstream.get(str(self.tokenizer), Facts())
        return Facts(
            vocab_size=known.vocab_size,
            context_length=self.context_length,
            eos_token=known.eos_token,
            pad_token=known.pad_token,
            chat_template=known.chat_template,
            validation=self.validation_fraction > 0,
        )

    def problems(self, upstream: Mapping[str, Facts]) -> Iterator[Problem]:
        if self.context_length < 2:
            what = f"{self.context_length} leaves nothing to predict"
            yield Problem(("context_length",), what, "it must be at least 2")
        if not 0 <= self.validation_fraction < 1:
            what = f"{self.validation_fraction} is no part of the documents"
            yield Problem(("validation_fraction",), what, "it must be at least 0 and below 1")
        if self.shard_tokens < 1:
            yield Problem(("shard_tokens",), f"{self.shard_tokens} is below 1", "leave it out")

    def run(self, context: Context) -> dict[str, Any]:
        from llmkit.data.shard_files import token_dtype, write_json

        folder = Path(context.inputs[str(self.documents)])
        tokenizer, vocab_size = self._tokenizer(context)
        holdout = self._holdout(context, folder)
        started, splits, fresh_bytes = time.monotonic(), {}, 0
        for split in ("validation", "train"):
            with self._writer(context, split, vocab_size, tokenizer.eos_token_id) as writer:
                before = sum(shard.bytes for shard in writer.shards)
                encode_split(context.name, holdout, folder, tokenizer, writer)
                splits[split] = writer.finish()
            fresh_bytes += splits[split]["bytes"] - before
        rate = fresh_bytes / (time.monotonic() - started) / 1e6
        index = {
            "dtype": token_dtype(vocab_size).name,
            "vocab_size": vocab_size,
            "eos_token_id": tokenizer.eos_token_id,
            "context_length": self.context_length,
            "splits": splits,
        }
        write_json(context.out / "index.json", index)
        self._gates(context, index)
        return figures(splits) | {"megabytes_per_second": round(rate, 2)}

    def _tokenizer(self, context: Context) -> tuple[Any, int]:
        """The tokenizer, and the number of its ids, holes included."""
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        from llmkit.data.bpe import num_ids

        tokenizer = AutoTokenizer.from_pretrained(context.inputs[str(self.tokenizer)])
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            remedy = "choose one that comes with a tokenizer.json"
            raise InputError(str(self.tokenizer), f"{type(tokenizer).__name__} is slow", remedy)
        if tokenizer.eos_token_id is None:
            remedy = "choose one with an eos_token: it closes every document"
            raise InputError(str(self.tokenizer), "the tokenizer has no end-of-text token", remedy)
        return tokenizer, num_ids(tokenizer)

    def _holdout(self, context: Context, folder: Path) -> Holdout:
        """How the documents are divided; counted once, and remembered over a kill."""
        from llmkit.data.holdout import Holdout, divide
        from llmkit.data.shard_files import write_json

        note = context.scratch / "holdout.json"
        if note.is_file():
            return Holdout(**json.loads(note.read_text(encoding="utf-8")))
        holdout = divide(folder, self.validation_fraction, context.name)
        write_json(note, asdict(holdout))
        return holdout

    def _writer(self, context: Context, split: str, vocab_size: int, eos: int) -> ShardWriter:
        from llmkit.data.shard_files import ShardWriter

        return ShardWriter(
            context.out,
            context.scratch,
            split,
            vocab_size=vocab_size,
            eos=eos,
            shard_tokens=self.shard_tokens,
        )

    def _gates(self, context: Context, index: dict[str, Any]) -> None:
        """Judge the files as they lie on the disk, not what was meant to be written."""
        from llmkit.data.shard_files import audit, damaged_files, seen_in_training, shards_of

        found, bound = audit(context.out), f"below {index['vocab_size']}"
        in_vocabulary = found.largest_id < index["vocab_size"]
        remedy = "train the tokenizer again"
        context.gate("ids_below_vocabulary", in_vocabulary, found.largest_id, bound, remedy)

        documents = sum(split["documents"] for split in index["splits"].values())
        closed = found.documents == found.ends_of_text == documents and found.misplaced == 0
        measured = f"{found.ends_of_text} end-of-text tokens, {found.misplaced} misplaced"
        bound = f"{documents} end-of-text tokens, one at each document's end and nowhere else"
        remedy = "use a tokenizer whose eos_token no text can spell"
        context.gate("document_boundaries", closed, measured, bound, remedy)

        damaged = [f for shard in shards_of(index) for f in damaged_files(context.out, shard)]
        bound = "0 files that differ from the SHA-256 of what was written"
        context.gate("shard_digests", not damaged, len(damaged), bound, "check the disk")

        seen = seen_in_training(context.out)
        bound = "0 validation documents that are also training documents, token for token"
        remedy = "use a tokenizer that gives different texts different tokens"
        context.gate("validation_not_in_training", seen == 0, seen, bound, remedy)

        tokens = index["splits"]["train"]["tokens"]
        bound = f"at least {self.context_length}, the context_length"
        remedy = "curate more text, or lower context_length"
        context.gate("training_tokens", tokens >= self.context_length, tokens, bound, remedy)


def encode_split(
    label: str, holdout: Holdout, folder: Path, tokenizer: Any, writer: ShardWriter
) -> None:
    """Encode the documents of the writer's split that are not in its finished shards."""
    from llmkit.data.bpe import plain_encoder
    from llmkit.progress import Progress

    encoder = plain_encoder(tokenizer)
    finished = sum(shard.documents for shard in writer.shards)
    texts = islice(holdout.texts(folder, writer.split), finished, None)
    with Progress(f"{label}: {writer.split}", holdout.bytes[writer.split], "bytes") as progress:
        progress.start_at(sum(shard.bytes for shard in writer.shards))
        for batch, sizes in batches(texts, BATCH_BYTES):
            encodings = encoder.encode_batch_fast(batch, add_special_tokens=False)
            writer.add([encoding.ids for encoding in encodings], sizes)
            progress.update(sum(sizes))


def batches(texts: Iterable[str], max_bytes: int) -> Iterator[tuple[list[str], list[int]]]:
    """Lists of texts, each closed by the text that fills it, and the UTF-8 bytes of each text."""
    batch: list[str] = []
    sizes: list[int] = []
    total = 0
    for text in texts:
        batch.append(text)
        sizes.append(len(text.encode()))
        total += sizes[-1]
        if total >= max_bytes:
            yield batch, sizes
            batch, sizes, total = [], [], 0
    if batch:
        yield batch, sizes


def figures(splits: Mapping[str, Any]) -> dict[str, Any]:
    """Tokens, documents and bytes of each split, and the compression of all."""
    flat = {
        f"{split}_{unit}": splits[split][unit]
        for split in splits
        for unit in ("tokens", "documents", "bytes")
    }
    tokens = sum(split["tokens"] for split in splits.values())
    num_bytes = sum(split["bytes"] for split in splits.values())
    return {**flat, "bytes_per_token": round(num_bytes / tokens, 4)}
