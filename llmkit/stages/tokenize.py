"""tokenize: documents -> memory-mapped shards of token ids, split in training and validation.

Which documents validate is decided by their text (`llmkit.data.tokens.holdout`), and what encodes
them by a comparison (`llmkit.data.tokens.encoding_backend`). The layout of the files stands in
`llmkit.data.tokens.shard_files`, their reader in `llmkit.data.tokens.shards`. After a kill the
finished shards stay, and the rest comes out in the same bytes.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from llmkit.errors import InputError, Problem
from llmkit.schema import Refers
from llmkit.stage import Context, Facts, Stage, log

if TYPE_CHECKING:
    from llmkit.data.tokens.holdout import Holdout
    from llmkit.data.tokens.shard_files import ShardWriter

SAMPLE_BYTES = 1_000_000  # of documents, on which backends are compared
SPLITS = ("validation", "train")


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
        backend: what encodes; `auto` is gigatoken where it is installed and gives the same ids.
        from_llmc: a folder or glob of llm.c's `.bin` files to take the tokens from, instead of
            documents; those with `val` in their names validate.
        to_llmc: write llm.c's `.bin` files too, into `llmc/`.
    """

    makes: ClassVar[tuple[str, ...]] = ("shards",)
    libraries: ClassVar[tuple[str, ...]] = ("tokenizers",)

    documents: Annotated[str | None, Refers("documents", optional=True)] = None
    tokenizer: Annotated[str | None, Refers("tokenizer")] = None
    context_length: int
    validation_fraction: float = 0.01
    shard_tokens: int = 100_000_000
    backend: Literal["auto", "tokenizers", "gigatoken"] = "auto"
    from_llmc: str | None = None
    to_llmc: bool = False

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
        if self.from_llmc is None and self.documents is None:
            yield Problem(("documents",), "no stage above makes documents", "name one")
        elif self.from_llmc is not None:
            yield from self._llmc_problems()

    def _llmc_problems(self) -> Iterator[Problem]:
        """The files that are to be read are there, and are llm.c's."""
        from llmkit.data.tokens.llmc_bin import files_of, read_tokens

        try:
            for files in files_of(str(self.from_llmc)).values():
                deque(map(read_tokens, files), maxlen=0)
        except InputError as error:
            yield Problem(("from_llmc",), f"{error.where}: {error.what}", error.remedy)

    def files(self) -> Iterator[Path]:
        if self.from_llmc is not None:
            from llmkit.data.tokens.llmc_bin import files_of

            yield from (file for files in files_of(self.from_llmc).values() for file in files)

    def run(self, context: Context) -> dict[str, Any]:
        from llmkit.data.tokens import llmc_bin
        from llmkit.data.tokens.shard_files import token_dtype, write_json

        tokenizer, vocab_size = self._tokenizer(context)
        started = time.monotonic()
        with ExitStack() as open_writers:
            writers = {
                split: open_writers.enter_context(
                    self._writer(context, split, vocab_size, tokenizer.eos_token_id)
                )
                for split in SPLITS
            }
            before = sum(shard.bytes for writer in writers.values() for shard in writer.shards)
            fill = self._encode if self.from_llmc is None else self._import
            told = fill(context, tokenizer, writers)
            splits = {split: writer.finish() for split, writer in writers.items()}
        fresh_bytes = sum(split["bytes"] for split in splits.values()) - before
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
        if self.to_llmc:
            llmc_bin.export(context.out, context.out / "llmc")
        return figures(splits) | {"megabytes_per_second": round(rate, 2)} | told

    def _encode(
        self, context: Context, tokenizer: Any, writers: Mapping[str, ShardWriter]
    ) -> dict[str, Any]:
        """The documents into the writers, by the fastest backend that is right; which one it is."""
        from llmkit.data.documents import sample_documents
        from llmkit.data.tokens.bpe import plain_encoder
        from llmkit.data.tokens.encoding import encode
        from llmkit.data.tokens.encoding_backend import choose

        folder = Path(context.inputs[str(self.documents)])
        holdout = self._holdout(context, folder)
        sample = [document.text for document in sample_documents(folder, SAMPLE_BYTES)]
        choice = choose(plain_encoder(tokenizer), self.backend, sample)
        log.info("%s: %s", context.name, choice)
        encode(context.name, holdout, folder, choice, writers)
        bound = "0 texts of this corpus, and of those that are known to be hard, have other ids "
        bound += "than tokenizers gives them"
        remedy = "set backend: tokenizers"
        context.gate("encoder_identity", not choice.differing, str(choice), bound, remedy)
        return {"backend": choice.backend.name, "texts_compared": choice.compared}

    def _import(
        self, context: Context, tokenizer: Any, writers: Mapping[str, ShardWriter]
    ) -> dict[str, Any]:
        """llm.c's tokens into the writers; the bytes of their text are counted by the tokenizer."""
        import numpy as np

        from llmkit.data.tokens import llmc_bin
        from llmkit.data.tokens.bpe import plain_encoder
        from llmkit.data.tokens.tiktoken_ranks import token_sizes

        sizes = token_sizes(plain_encoder(tokenizer))
        for split, files in llmc_bin.files_of(str(self.from_llmc)).items():
            skip = sum(shard.documents for shard in writers[split].shards)
            for ids, lengths in llmc_bin.iter_documents(files, tokenizer.eos_token_id):
                if len(ids) and ids.max() >= len(sizes):
                    what = f"holds id {ids.max()}; the tokenizer has {len(sizes)}"
                    raise InputError(str(files[0]), what, "name the tokenizer that made the files")
                ends = np.cumsum(lengths)
                of_text = np.diff(np.concatenate([[0], np.cumsum(sizes[ids])])[ends], prepend=0)
                done, skip = min(skip, len(lengths)), max(skip - len(lengths), 0)
                start = int(ends[done - 1]) if done else 0
                writers[split].add_flat(ids[start:], lengths[done:], of_text[done:])
        return {"backend": "llm.c"}

    def _tokenizer(self, context: Context) -> tuple[Any, int]:
        """The tokenizer, and the number of its ids, holes included."""
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        from llmkit.data.tokens.bpe import num_ids

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
        from llmkit.data.tokens.holdout import Holdout, divide
        from llmkit.data.tokens.shard_files import write_json

        note = context.scratch / "holdout.json"
        if note.is_file():
            return Holdout(**json.loads(note.read_text(encoding="utf-8")))
        holdout = divide(folder, self.validation_fraction, context.name)
        write_json(note, asdict(holdout))
        return holdout

    def _writer(self, context: Context, split: str, vocab_size: int, eos: int) -> ShardWriter:
        from llmkit.data.tokens.shard_files import ShardWriter

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
        from llmkit.data.tokens.shard_audit import audit, seen_in_training
        from llmkit.data.tokens.shard_files import damaged_files, shards_of

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
