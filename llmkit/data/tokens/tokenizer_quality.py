"""Is a tokenizer sound, and is it any good? Figures measured on a sample of its own documents.

Bytes per token is compression; a token that no text of the sample uses is a row of the embedding
that hardly learns (https://arxiv.org/abs/2405.05417); the longest tokens show what junk the
documents repeat.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from llmkit.data.tokens.bpe import SPECIALS

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

HARD_STRINGS = (
    "",
    " ",
    "\n",
    "\r\n one\r\n\r\ntwo\rthree \n",
    "  leading, trailing  \t ",
    "\x00\x01\x07\x1b[0m\x7f\x85\u200b\u2028\ufeff",
    "naïve café, Ångström; cafe\u0301",
    "漢字とかな、한국어, ไทย, العربية, עברית",
    "👩🏽‍🚀👨‍👩‍👧‍👦🇫🇷 ☕️",
    "\U0010ffff\ufffd\ufffe",
    "1234567.89e-10 ½ ٣٤",
    "I'LL don't 'tis we've'd",
    "def f(x):\n\treturn  {x: [1]}  # <b>&amp;</b>",
    "a" * 300,
)
CONVERSATION = (
    {"role": "user", "content": "Hello there"},
    {"role": "assistant", "content": "Hi, you 2!"},
    {"role": "user", "content": "More"},
    {"role": "assistant", "content": "Bye"},
)


class EvenSample:
    """At most `max_bytes` of texts, taken at even steps from a stream of unknown length.

    Every `stride`-th text is kept; when they grow too many, every other one goes and the stride
    doubles. The same stream always gives the same sample, and its first text is always in it.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.stride = max_bytes, 1
        self.texts: list[str] = []
        self.seen = self.bytes = 0

    def watch(self, texts: Iterable[str]) -> Iterator[str]:
        """Pass the texts through, keeping some; count them and their UTF-8 bytes."""
        kept = 0
        for text in texts:
            size = len(text.encode())
            if self.seen % self.stride == 0:
                self.texts.append(text)
                kept += size
            self.seen += 1
            self.bytes += size
            while kept > self.max_bytes and len(self.texts) > 1:
                self.texts = self.texts[::2]
                self.stride *= 2
                kept = sum(len(kept_text.encode()) for kept_text in self.texts)
            yield text


@dataclass(frozen=True)
class Encoded:
    """Texts with their ids; encoding is what takes the time, so it is done once for all figures."""

    encoder: Tokenizer
    texts: Sequence[str]
    ids: list[list[int]]

    @classmethod
    def of(cls, encoder: Tokenizer, texts: Sequence[str]) -> Encoded:
        """The ids of each text, with nothing added."""
        encodings = encoder.encode_batch_fast(list(texts), add_special_tokens=False)
        return cls(encoder, texts, [encoding.ids for encoding in encodings])

    def changed(self) -> list[str]:
        """The texts that do not come back exactly when their ids are decoded."""
        decoded = self.encoder.decode_batch(self.ids, skip_special_tokens=False)
        return [text for text, back in zip(self.texts, decoded, strict=True) if text != back]

    def leaking(self, first_special: int) -> list[str]:
        """The texts that give the id of a special token although they are plain text."""
        rows = zip(self.texts, self.ids, strict=True)
        return [text for text, row in rows if max(row, default=-1) >= first_special]

    def figures(self) -> dict[str, Any]:
        """Compression and use of the vocabulary: flat, ready for `stage.json`."""
        used = set(chain.from_iterable(self.ids))
        tokens = sum(len(row) for row in self.ids)
        words = sum(len(text.split()) for text in self.texts)
        num_bytes = sum(len(text.encode()) for text in self.texts)
        return {
            "sample_documents": len(self.texts),
            "sample_bytes": num_bytes,
            "bytes_per_token": round(num_bytes / max(tokens, 1), 4),
            "tokens_per_word": round(tokens / max(words, 1), 4),
            "ids_unused_in_sample": self.encoder.get_vocab_size(with_added_tokens=False)
            - len(used),
            "longest_tokens": longest_tokens(self.encoder),
        }


def texts_with_specials(
    texts: Sequence[str], specials: Sequence[str] = SPECIALS, count: int = 20
) -> list[str]:
    """Every special's spelling alone, and in the midst of some of the texts."""
    midst = [
        text[: len(text) // 2] + special + text[len(text) // 2 :]
        for text in texts[:count]
        for special in specials
    ]
    return list(specials) + midst


def longest_tokens(encoder: Tokenizer, count: int = 10) -> list[str]:
    """The tokens of most bytes, longest first (equal lengths by id)."""
    # One character of the byte-level alphabet is one byte.
    by_length = sorted(encoder.get_vocab(with_added_tokens=False).items(), key=_longest_first)
    return [encoder.decode([token_id]) for _, token_id in by_length[:count]]


def _longest_first(entry: tuple[str, int]) -> tuple[int, int]:
    return -len(entry[0]), entry[1]


def template_mask_fault(tokenizer: PreTrainedTokenizerFast) -> str:
    """What is wrong with the chat template's marks on a small conversation; "" when nothing is.

    The marked tokens must be the assistant's words, in order, each with what ends its turn.
    """
    from jinja2 import TemplateError

    try:
        encoded = tokenizer.apply_chat_template(
            [dict(message) for message in CONVERSATION],
            return_assistant_tokens_mask=True,
            return_dict=True,
        )
    except TemplateError as error:
        return f"it does not render: {error}"
    mask = encoded["assistant_masks"]
    if not any(mask):
        return "it marks nothing with {% generation %}"
    marked = [i for i, mark in zip(encoded["input_ids"], mask, strict=True) if mark]
    text = tokenizer.decode(marked)
    words = [m["content"] for m in CONVERSATION if m["role"] == "assistant"]
    ends = text.split(words[0], 1)[-1].split(words[1], 1)
    if not text.startswith(words[0]) or len(ends) < 2 or not ends[0] or ends[0] != ends[1]:
        return f"it marks {text!r}, not each assistant's words and the end of its turn"
    return ""
