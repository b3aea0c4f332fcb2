"""What turns texts into ids: `tokenizers`, or gigatoken where it has proved to give the same ids.

gigatoken (https://github.com/marcelroed/gigatoken, extra `[fast]`) knows a number of split patterns
by their spelling and cuts by hand-written code instead of a regular expression. It is used when

  - its spelling of the tokenizer's pattern is known here (FAST_SPELLINGS),
  - its ids equal those of `tokenizers` on a sample of this very corpus and on hard strings,

and one document of every batch is compared on the way. It keeps every word that it has seen, so it
is built anew after RENEW_BYTES of text; that bounds its memory.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from llmkit.data.tokens import bpe
from llmkit.data.tokens.tokenizer_quality import HARD_STRINGS
from llmkit.errors import MissingExtraError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Name = Literal["auto", "tokenizers", "gigatoken"]
# Texts one after another: all ids, and how many each text has.
Flat = tuple[NDArray[np.int64], NDArray[np.int64]]

RENEW_BYTES = 2**30

_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Our patterns -> the spelling of the same by which gigatoken knows it. That of gpt4 differs on one
# kind of text, see `needs_own_cut`.
FAST_SPELLINGS = {
    bpe.split_pattern("gpt2"): _GPT2,
    bpe.split_pattern("gpt4"): bpe.split_pattern("llama3"),
    bpe.split_pattern("gpt4", individual_digits=True): bpe.split_pattern("llama3", True),
    bpe.split_pattern("llama3"): bpe.split_pattern("llama3"),
    bpe.split_pattern("llama3", individual_digits=True): bpe.split_pattern("llama3", True),
    bpe.split_pattern("o200k"): bpe.split_pattern("o200k"),
}
ENDS_WHOLE = r"\s++\z"  # the alternative of gpt4's that llama3's lacks
TAILS = ("a \n  ", "b\r\n\t", "  \n\n \u00a0", "x\n \n", "!\n  ", "\n", "y  ", "1\u2028 ")


class TokenizersBackend:
    """`encode_batch_fast` on all cores."""

    name = "tokenizers"

    def __init__(self, encoder: Tokenizer) -> None:
        self.encoder = encoder

    def encode(self, texts: Sequence[str]) -> Flat:
        """The ids of all texts one after another, and the number of each text's."""
        encodings = self.encoder.encode_batch_fast(list(texts), add_special_tokens=False)
        rows = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        count = int(lengths.sum())
        return np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=count), lengths


class GigatokenBackend:
    """gigatoken on all cores; texts that it would cut otherwise go to `tokenizers`.

    Raises:
        ValueError: gigatoken has no fast way with this tokenizer.
    """

    name = "gigatoken"

    def __init__(self, encoder: Tokenizer) -> None:
        self.exact = TokenizersBackend(encoder)
        self._json, self._ends_whole = fast_form(encoder)
        self._build()

    def _build(self) -> None:
        import gigatoken

        try:
            self._fast = gigatoken.Tokenizer.from_json(self._json)
        except Exception as error:  # its Rust errors share no base but this
            raise ValueError(" ".join(str(error).split())[:200]) from error
        self._encoded_bytes = 0

    def encode(self, texts: Sequence[str]) -> Flat:
        """The ids of all texts one after another, and the number of each text's."""
        if self._encoded_bytes > RENEW_BYTES:
            self._build()
        self._encoded_bytes += sum(map(len, texts))
        layout = self._fast.encode_batch(list(texts)).layout
        ids = np.asarray(layout.content.data).astype(np.int64)
        ends = np.asarray(layout.offsets.data).astype(np.int64)
        odd = [i for i, text in enumerate(texts) if self._ends_whole and needs_own_cut(text)]
        if not odd:
            return ids[ends[0] : ends[-1]], np.diff(ends)
        rows = np.split(ids[ends[0] : ends[-1]], ends[1:-1] - ends[0])
        own, lengths = self.exact.encode([texts[i] for i in odd])
        for i, row in zip(odd, np.split(own, np.cumsum(lengths)[:-1]), strict=True):
            rows[i] = row
        return np.concatenate(rows), np.array([len(row) for row in rows], dtype=np.int64)


Backend = TokenizersBackend | GigatokenBackend


def needs_own_cut(text: str) -> bool:
    """Whether a text ends in white space with a line's end in it that is not its last character.

    cl100k takes such an end for one piece, `\\s++\\z`; Llama 3's form of the pattern cuts it behind
    the last line feed. Everywhere else the two cut alike.
    """
    if not text or not text[-1].isspace() or text[-1] in "\r\n":
        return False
    tail = text[len(text.rstrip()) :]
    return "\n" in tail or "\r" in tail


def fast_form(encoder: Tokenizer) -> tuple[str, bool]:
    """`tokenizer.json` as gigatoken takes it, and whether some ends need their own cut.

    Added tokens are left out, since their spelling in a document is text.

    Raises:
        ValueError: the pattern is none of FAST_SPELLINGS, or there is a normalizer.
    """
    form: dict[str, Any] = json.loads(encoder.to_str())
    if form.get("normalizer") is not None:
        raise ValueError("the tokenizer normalizes texts")
    steps = (form.get("pre_tokenizer") or {}).get("pretokenizers") or []
    splits = [step for step in steps if step.get("type") == "Split"]
    if len(splits) != 1 or len(steps) != 2:
        raise ValueError("the tokenizer does not cut by one pattern into bytes")
    pattern = str(splits[0]["pattern"].get("Regex"))
    if pattern not in FAST_SPELLINGS:
        raise ValueError(f"no fast spelling of the pattern {pattern!r:.80} is known")
    splits[0]["pattern"]["Regex"] = FAST_SPELLINGS[pattern]
    form["added_tokens"], form["post_processor"] = [], None
    return json.dumps(form), ENDS_WHOLE in pattern


@dataclass
class Choice:
    """The backend that encodes, and why.

    Attributes:
        compared: texts whose ids were compared with those of `tokenizers`, on the way too.
        differing: those of them that differed.
        why: what kept gigatoken out, where it was not chosen.
    """

    backend: Backend
    encoder: Tokenizer
    compared: int = 0
    differing: list[str] = field(default_factory=list)
    why: str = ""

    def __str__(self) -> str:
        if self.backend.name == "tokenizers":
            return "tokenizers itself" + (f", since {self.why}" if self.why else "")
        return f"{self.backend.name}, {len(self.differing)} of {self.compared} texts differ"

    def encode(self, texts: Sequence[str]) -> Flat:
        """Ids of the texts. One text, chosen by the count of those before, is encoded twice."""
        ids, lengths = self.backend.encode(texts)
        if self.backend.name != "tokenizers" and len(texts):
            at = self.compared % len(texts)
            start = int(lengths[:at].sum())
            self.compare([texts[at]], ids[start : start + lengths[at]], lengths[at : at + 1])
        return ids, lengths

    def compare(
        self, texts: Sequence[str], ids: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> None:
        """Compare ids with those of `tokenizers`."""
        due, due_lengths = TokenizersBackend(self.encoder).encode(texts)
        self.compared += len(texts)
        if np.array_equal(due_lengths, lengths) and np.array_equal(due, ids):
            return
        rows = zip(_rows(due, due_lengths), _rows(ids, lengths), texts, strict=True)
        self.differing += [text for a, b, text in rows if not np.array_equal(a, b)]


def _rows(ids: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return np.split(ids, np.cumsum(lengths)[:-1])


def choose(encoder: Tokenizer, asked: Name, sample: Sequence[str]) -> Choice:
    """The fastest backend whose ids are right on the sample and on hard strings.

    Args:
        encoder: as `llmkit.data.tokens.bpe.plain_encoder` makes it.
        asked: a backend by name; `auto` falls back to `tokenizers` and says why.
        sample: of the very texts that will be encoded.

    Raises:
        MissingExtraError: gigatoken is asked for and not installed.
    """
    exact = Choice(TokenizersBackend(encoder), encoder)
    if asked == "tokenizers":
        return exact
    if importlib.util.find_spec("gigatoken") is None:
        if asked == "gigatoken":
            raise MissingExtraError("gigatoken", "fast", "tokenize.backend")
        exact.why = "gigatoken is not installed"
        return exact
    try:
        tried = Choice(GigatokenBackend(encoder), encoder)
    except ValueError as error:
        exact.why = f"gigatoken cannot encode it: {error}"
        return exact
    texts = [*sample, *HARD_STRINGS, *TAILS]
    tried.compare(texts, *tried.backend.encode(texts))
    if tried.differing and asked == "auto":
        exact.why = f"gigatoken gives other ids for {tried.differing[0]!r:.80}"
        exact.compared = tried.compared
        return exact
    return tried
