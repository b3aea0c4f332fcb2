"""tokenizer: a byte-level BPE learnt from the run's own documents, with specials and chat template.

The folder is what `AutoTokenizer.from_pretrained` reads. How the vocabulary is learnt, and where
the split patterns come from, stands in `llmkit.data.bpe`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from llmkit.data import bpe
from llmkit.errors import InputError, Problem
from llmkit.schema import Refers
from llmkit.stage import Context, Facts, Stage, log

if TYPE_CHECKING:
    from llmkit.data.tokenizer_quality import Encoded, EvenSample

SMALLEST_VOCABULARY = bpe.NUM_BYTES + len(bpe.SPECIALS)
SAMPLE_BYTES = 2_000_000  # of documents, on which the tokenizer is measured


@dataclass(frozen=True, kw_only=True)
class Tokenizer(Stage):
    """Train a tokenizer.

    Attributes:
        documents: the stage whose texts are learnt from.
        vocab_size: all ids, the six specials at its end included: the rows of an embedding.
        pattern: how text is cut into pieces before pairs are counted.
        individual_digits: every digit is a token of its own (easier sums, longer numbers).
        chat_template: `default`, a Jinja file, or nothing.
        limit: learn from the first so many documents.
        min_frequency: a pair must be seen so often to become a token.
    """

    makes: ClassVar[tuple[str, ...]] = ("tokenizer",)
    libraries: ClassVar[tuple[str, ...]] = ("tokenizers", "transformers")

    documents: Annotated[str | None, Refers("documents")] = None
    vocab_size: int
    pattern: Literal["gpt2", "gpt4", "llama3"] = "gpt4"
    individual_digits: bool = False
    chat_template: str | None = "default"
    limit: int | None = None
    min_frequency: int = 2

    def facts(self, upstream: Mapping[str, Facts]) -> Facts:
        return Facts(
            vocab_size=self.vocab_size,
            eos_token=bpe.END_OF_TEXT,
            pad_token=bpe.PAD,
            chat_template=self.chat_template is not None,
        )

    def problems(self, upstream: Mapping[str, Facts]) -> Iterator[Problem]:
        if self.vocab_size < SMALLEST_VOCABULARY:
            least = f"all bytes and the specials need {SMALLEST_VOCABULARY}"
            yield Problem(("vocab_size",), f"{self.vocab_size} is too small", least)
        if self.min_frequency < 1:
            yield Problem(("min_frequency",), f"{self.min_frequency} is below 1", "2 is usual")
        if self.limit is not None and self.limit < 1:
            yield Problem(("limit",), f"{self.limit} leaves no document", "leave it out for all")
        for path in self.files():
            if not path.is_file():
                remedy = "give a Jinja file, `default`, or null"
                yield Problem(("chat_template",), f"no such file: {path}", remedy)

    def files(self) -> Iterator[Path]:
        if self.chat_template not in (None, "default"):
            yield Path(str(self.chat_template))

    def run(self, context: Context) -> dict[str, Any]:
        from transformers import AutoTokenizer

        from llmkit.data.tokenizer_quality import Encoded, EvenSample

        sample = EvenSample(SAMPLE_BYTES)
        trained = bpe.train(
            self._texts(context, sample),
            vocab_size=self.vocab_size - len(bpe.SPECIALS),
            pattern=bpe.split_pattern(self.pattern, self.individual_digits),
            min_frequency=self.min_frequency,
            show_progress=sys.stderr.isatty(),
        )
        if sample.bytes == 0:
            where = str(context.inputs[str(self.documents)])
            raise InputError(where, "there is no text to learn from", "look at what curation kept")
        bpe.with_specials(trained, self._template()).save_pretrained(context.out)
        saved = AutoTokenizer.from_pretrained(context.out)  # the gates judge what others will load
        encoded = Encoded.of(bpe.plain_encoder(saved), sample.texts)
        self._vocabulary_gates(context, saved)
        self._text_gates(context, encoded)
        self._template_gate(context, saved)
        counts = {"vocab_size": len(saved), "documents": sample.seen, "bytes": sample.bytes}
        return counts | encoded.figures()

    def _texts(self, context: Context, sample: EvenSample) -> Iterator[str]:
        """The documents' texts up to the limit, counted and sampled on the way."""
        from llmkit.data.documents import iter_texts
        from llmkit.progress import track

        folder = Path(context.inputs[str(self.documents)])
        texts = sample.watch(islice(iter_texts(folder), self.limit))
        if not sys.stderr.isatty():  # on a terminal, the library's own bars show all its phases
            texts = track(texts, f"{context.name}: reading", total=self.limit, unit="documents")
        for text in texts:
            if sample.bytes > bpe.MAX_TRAINING_BYTES:
                remedy = f"set limit to {sample.seen - 1} documents or fewer"
                raise InputError(str(folder), "pair counts would overflow 32 bits", remedy)
            yield text
        log.info("%s: learning merges from %.1f MB", context.name, sample.bytes / 1e6)

    def _template(self) -> str | None:
        if self.chat_template is None:
            return None
        path = bpe.CHAT_TEMPLATE if self.chat_template == "default" else Path(self.chat_template)
        return path.read_text(encoding="utf-8")

    def _vocabulary_gates(self, context: Context, saved: Any) -> None:
        remedy = f"set vocab_size to {len(saved)}, lower min_frequency, or add documents"
        reached = len(saved) == self.vocab_size
        context.gate("vocabulary_reached", reached, len(saved), f"{self.vocab_size} ids", remedy)

        ids = saved.convert_tokens_to_ids(list(bpe.SPECIALS))
        due = list(range(len(saved) - len(bpe.SPECIALS), len(saved)))
        remedy = "choose a pattern that does not take a special's spelling for one piece"
        context.gate("specials_after_vocabulary", ids == due, str(ids), str(due), remedy)

    def _text_gates(self, context: Context, encoded: Encoded) -> None:
        """Documents, hard strings and the specials' spellings go through the tokenizer and back."""
        from llmkit.data import tokenizer_quality as quality

        spelled = [*quality.HARD_STRINGS, *quality.texts_with_specials(encoded.texts)]
        batches = [encoded, quality.Encoded.of(encoded.encoder, spelled)]
        count = len(encoded.texts) + len(spelled)
        changed = [text for batch in batches for text in batch.changed()]
        bound = f"0 of {count} texts changed by encoding and decoding"
        remedy = f"look at {changed[:1]!r:.200}"
        context.gate("round_trip", not changed, len(changed), bound, remedy)

        first_special = encoded.encoder.get_vocab_size(with_added_tokens=False)
        leaking = [text for batch in batches for text in batch.leaking(first_special)]
        bound = f"0 of {count} texts, the specials' own spellings among them, give a special's id"
        bound += " where special tokens are split (as documents and users' words are encoded)"
        remedy = f"look at {leaking[:1]!r:.200}"
        context.gate("specials_from_text", not leaking, len(leaking), bound, remedy)

    def _template_gate(self, context: Context, saved: Any) -> None:
        from llmkit.data.tokenizer_quality import template_mask_fault

        if self.chat_template is None:
            return
        fault = template_mask_fault(saved)
        bound = "the assistant's words and the end of each of its turns"
        remedy = "put {% generation %} and {% endgeneration %} around them in the template"
        context.gate("chat_template_marks", not fault, fault or "just these", bound, remedy)
