"""tokenizer: a byte-level BPE learnt from the run's own documents, or taken from tiktoken's ranks.

The folder is what `AutoTokenizer.from_pretrained` reads, with the same tokens as tiktoken's rank
file beside it. How a vocabulary is learnt and where the split patterns come from stands in
`llmkit.data.tokens.bpe`; where specials stand, in `llmkit.data.tokens.vocabulary`.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from llmkit.data.tokens import bpe, tiktoken_ranks, vocabulary
from llmkit.errors import InputError, Problem
from llmkit.schema import Refers
from llmkit.stage import Context, Facts, Stage, log

if TYPE_CHECKING:
    import tokenizers

    from llmkit.data.tokens.tokenizer_quality import EvenSample
    from llmkit.data.tokens.training_estimate import Estimate

SMALLEST_VOCABULARY = bpe.NUM_BYTES + len(bpe.SPECIALS)
SAMPLE_BYTES = 2_000_000  # of documents, on which the tokenizer is measured


@dataclass(frozen=True, kw_only=True)
class Tokenizer(Stage):
    """Train a tokenizer, or take over one of tiktoken's.

    Attributes:
        documents: the stage whose texts are learnt from; with `from_tiktoken`, measured on.
        vocab_size: all ids, the specials at the end included: the rows of an embedding.
        preset: `gpt4` is cl100k_base's pattern and layout, 100,277 ids.
        from_tiktoken: `gpt2`, `cl100k_base`, `o200k_base` or a rank file, instead of learning.
        pattern: how text is cut into pieces before pairs are counted; `gpt4` when left out.
        individual_digits: every digit is a token of its own (easier sums, longer numbers).
        specials: special token -> its id. All ids below the first are learnt, those between that
            nobody has are reserved, and llmkit's six that are missing take the lowest of these.
        chat_template: `default`, a Jinja file, or nothing.
        limit: learn from the first so many documents.
        min_frequency: a pair must be seen so often to become a token.
    """

    makes: ClassVar[tuple[str, ...]] = ("tokenizer",)
    libraries: ClassVar[tuple[str, ...]] = ("tokenizers", "transformers")

    documents: Annotated[str | None, Refers("documents", optional=True)] = None
    vocab_size: int | None = None
    preset: Literal["gpt4"] | None = None
    from_tiktoken: str | None = None
    pattern: Literal["gpt2", "gpt4", "llama3", "o200k"] | None = None
    individual_digits: bool = False
    specials: dict[str, int] | None = None
    chat_template: str | None = "default"
    limit: int | None = None
    min_frequency: int = 2

    def facts(self, upstream: Mapping[str, Facts]) -> Facts:
        layout = self._known_layout()
        padded = self.chat_template is not None if layout is None else bpe.PAD in layout.specials
        return Facts(
            vocab_size=self.vocab_size if layout is None else layout.total,
            eos_token=bpe.END_OF_TEXT,
            pad_token=bpe.PAD if padded else None,
            chat_template=self.chat_template is not None,
        )

    def problems(self, upstream: Mapping[str, Facts]) -> Iterator[Problem]:
        yield from self._source_problems()
        if self.vocab_size is not None and self.vocab_size < SMALLEST_VOCABULARY:
            least = f"all bytes and the specials need {SMALLEST_VOCABULARY}"
            yield Problem(("vocab_size",), f"{self.vocab_size} is too small", least)
        if self.min_frequency < 1:
            yield Problem(("min_frequency",), f"{self.min_frequency} is below 1", "2 is usual")
        if self.limit is not None and self.limit < 1:
            yield Problem(("limit",), f"{self.limit} leaves no document", "leave it out for all")
        for path in self.files():
            if not path.is_file():
                key = "from_tiktoken" if str(path) == self.from_tiktoken else "chat_template"
                remedy = "give a Jinja file, `default`, or null"
                if key == "from_tiktoken":
                    remedy = f"give a rank file, or one of {', '.join(tiktoken_ranks.PUBLISHED)}"
                yield Problem((key,), f"no such file: {path}", remedy)

    def _source_problems(self) -> Iterator[Problem]:
        """Exactly one way to a vocabulary, and what each needs or settles itself."""
        ways = {
            key: getattr(self, key)
            for key in ("vocab_size", "preset", "from_tiktoken", "specials")
            if getattr(self, key) is not None
        }
        if not ways:
            yield Problem(("vocab_size",), "Tokenizer needs this key", "or preset: gpt4")
        elif len(ways) > 1 and set(ways) != {"from_tiktoken", "specials"}:
            first, other = list(ways)[:2]
            yield Problem((other,), f"says what {first} says too", "keep one of them")
        if self.from_tiktoken is None and self.documents is None:
            yield Problem(("documents",), "no stage above makes documents", "name one")
        if self.individual_digits and self.from_tiktoken is not None:
            yield Problem(("individual_digits",), "would change tiktoken's ids", "leave it out")
        if self.pattern not in (None, "gpt4") and self.preset is not None:
            yield Problem(("pattern",), f"the preset's is gpt4, not {self.pattern}", "leave it out")
        try:
            self._known_layout()
        except ValueError as error:
            yield Problem(("specials",), str(error), "change their ids")

    def files(self) -> Iterator[Path]:
        if self.chat_template not in (None, "default"):
            yield Path(str(self.chat_template))
        if self.from_tiktoken is not None and self.from_tiktoken not in tiktoken_ranks.PUBLISHED:
            yield Path(self.from_tiktoken)

    def _known_layout(self) -> vocabulary.Layout | None:
        """Where the ids stand, as far as the recipe alone says."""
        published = tiktoken_ranks.PUBLISHED.get(self.from_tiktoken or "")
        if published is not None:
            return self._layout_over(published.learned, published.specials)
        if self.from_tiktoken is not None:
            return None
        if self.preset == "gpt4":
            return vocabulary.gpt4()
        if self.specials is not None:
            return vocabulary.asked_for(self.specials)
        return None if self.vocab_size is None else vocabulary.at_the_end(self.vocab_size)

    def _layout_over(self, learned: int, known: Mapping[str, int]) -> vocabulary.Layout:
        """Specials over tiktoken's ranks: its own, those asked for, and a chat's where one is due.

        Without a chat template nothing is added, so that the ids are tiktoken's to the last.
        """
        wanted = (bpe.END_OF_TEXT,) if self.chat_template is None else bpe.SPECIALS
        return vocabulary.placed(learned, {**known, **(self.specials or {})}, wanted)

    def run(self, context: Context) -> dict[str, Any]:
        from transformers import AutoTokenizer

        from llmkit.data.tokens import tokenizer_gates as gates
        from llmkit.data.tokens.tokenizer_comparison import compare
        from llmkit.data.tokens.tokenizer_quality import Encoded, EvenSample

        sample = EvenSample(SAMPLE_BYTES)
        if self.from_tiktoken is not None:
            learnt, layout = self._from_ranks(), self._known_layout()
            if self.documents is not None:
                deque(sample.watch(self._texts(context)), maxlen=0)
        else:
            learnt, layout = self._learn(context, sample), self._known_layout()
        layout = self._reached(context, learnt.get_vocab_size(), layout)
        bpe.with_specials(learnt, self._template(), layout).save_pretrained(context.out)
        saved = AutoTokenizer.from_pretrained(context.out)  # the gates judge what others will load
        encoded = Encoded.of(bpe.plain_encoder(saved), sample.texts)
        gates.specials_gate(context, saved, layout)
        gates.text_gates(context, encoded, list(layout.specials))
        gates.template_gate(context, saved)
        gates.ranks_gate(context, encoded.encoder)
        tiktoken_ranks.write_encoding(
            context.out / "tiktoken", encoded.encoder, self._pattern(), layout.added()
        )
        folder = None if self.documents is None else Path(context.inputs[self.documents])
        counts = {"vocab_size": layout.total, "documents": sample.seen, "bytes": sample.bytes}
        return counts | encoded.figures() | compare(context, encoded.encoder, folder)

    def _learn(self, context: Context, sample: EvenSample) -> tokenizers.Tokenizer:
        """A vocabulary from the documents, once it is clear that the machine can hold it."""
        layout = self._known_layout()
        assert layout is not None  # `problems` has asked for a vocabulary
        expected = self._estimate(context, layout.learned)
        trained = bpe.train(
            self._training_texts(context, sample, expected.countable_bytes),
            vocab_size=layout.learned,
            pattern=self._pattern(),
            min_frequency=self.min_frequency,
            show_progress=sys.stderr.isatty(),
        )
        if sample.bytes == 0:
            where = str(context.inputs[str(self.documents)])
            raise InputError(where, "there is no text to learn from", "look at what curation kept")
        return trained

    def _estimate(self, context: Context, learned: int) -> Estimate:
        """What the training will take; refused where the machine has not that much memory."""
        from llmkit.data import documents
        from llmkit.data.tokens import training_estimate

        folder = Path(context.inputs[str(self.documents)])
        count, size = documents.size_of(folder)
        used = min(self.limit or count, count)
        some = documents.sample_documents(folder, training_estimate.SAMPLE_BYTES)
        expected = training_estimate.estimate(
            [document.text for document in some],
            size * used // max(count, 1),
            self._pattern(),
            learned,
        )
        log.info("%s: %s", context.name, expected)
        memory = training_estimate.machine_memory()
        if expected.memory_bytes > memory:
            fitting = int(used * memory / expected.memory_bytes)
            what = f"would take {expected}, and this machine has {memory / 1e9:,.1f} GB"
            raise InputError(f"{context.name}.limit", what, f"set limit to {fitting} or fewer")
        return expected

    def _pattern(self) -> str:
        """The regular expression that cuts text."""
        published = None
        if self.from_tiktoken is not None:
            published = tiktoken_ranks.published(self.from_tiktoken)
        name = self.pattern or (published.pattern if published else "gpt4")
        return bpe.split_pattern(name, self.individual_digits)

    def _from_ranks(self) -> tokenizers.Tokenizer:
        """tiktoken's vocabulary as a Hugging Face tokenizer."""
        source = str(self.from_tiktoken)
        if self.pattern is None and tiktoken_ranks.published(source) is None:
            remedy = "say `pattern:` gpt2, gpt4, llama3 or o200k"
            raise InputError(source, "these ranks are none that are known by their bytes", remedy)
        return tiktoken_ranks.from_ranks(tiktoken_ranks.ranks_of(source), self._pattern())

    def _reached(
        self, context: Context, learned: int, due: vocabulary.Layout | None
    ) -> vocabulary.Layout:
        """The layout of what was learnt; a gate says whether that is all that was asked for."""
        if due is None:  # a rank file of one's own
            published = tiktoken_ranks.published(str(self.from_tiktoken))
            try:
                return self._layout_over(learned, published.specials if published else {})
            except ValueError as error:
                where = f"{context.name}.specials"
                raise InputError(where, str(error), "change their ids") from error
        fixed, asked = self.vocab_size is None, due.total
        if learned != due.learned and not fixed:
            due = vocabulary.at_the_end(learned + len(bpe.SPECIALS))
        measured = learned if fixed else due.total
        bound = f"{due.learned} learnt ids" if fixed else f"{asked} ids"
        remedy = "leave out preset and specials, and set vocab_size" if fixed else "set vocab_size"
        remedy += f" to {learned + len(bpe.SPECIALS)}, lower min_frequency, or add documents"
        passed = learned == due.learned and due.total == asked
        context.gate("vocabulary_reached", passed, measured, bound, remedy)
        return replace(due, learned=learned)

    def _texts(self, context: Context) -> Iterator[str]:
        """The documents' texts up to the limit."""
        from llmkit.data.documents import iter_texts
        from llmkit.progress import track

        texts = islice(iter_texts(Path(context.inputs[str(self.documents)])), self.limit)
        if sys.stderr.isatty():  # on a terminal, the library's own bars show all its phases
            return texts
        return track(texts, f"{context.name}: reading", total=self.limit, unit="documents")

    def _training_texts(
        self, context: Context, sample: EvenSample, countable_bytes: int
    ) -> Iterator[str]:
        """The texts, counted and sampled on the way, for as long as 32 bits can count pairs."""
        for text in sample.watch(self._texts(context)):
            if sample.bytes > countable_bytes:
                where = str(context.inputs[str(self.documents)])
                remedy = f"set limit to {sample.seen - 1} documents or fewer"
                raise InputError(where, "pair counts could overflow 32 bits", remedy)
            yield text
        log.info("%s: learning merges from %.1f MB", context.name, sample.bytes / 1e6)

    def _template(self) -> str | None:
        if self.chat_template is None:
            return None
        path = bpe.CHAT_TEMPLATE if self.chat_template == "default" else Path(self.chat_template)
        return path.read_text(encoding="utf-8")
