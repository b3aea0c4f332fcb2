"""The likeliest language of a text: fastText's own answer in a third to three quarters of its time.

fastText looks up every piece of every word by itself. Here words are remembered, and numpy does
all that are new to a text at once:

    h = mean over words and pieces of row[id]        (pieces: 2 to 4 characters of "<word>")
    f[node] = sigmoid(out[node] . h)                 (hierarchical softmax over a Huffman tree)
    score[label] = exp(sum over the way to its leaf of log f, or of log(1 - f))

Sums run in fastText's order and precision, so a score is fastText's figure bit for bit (where its
build multiplies and adds in two roundings, as on x86-64; else to 1e-6). Its `expf` alone may round
either way where a figure lies halfway between two: there `likeliest` gives no answer, and fastText
is asked. The order of the sums:
https://github.com/facebookresearch/fastText/tree/v0.9.2/src
(`dictionary.cc`, `loss.cc`). `tests/data/curation/test_language_scores.py` holds the figures equal.
"""

from __future__ import annotations

from itertools import pairwise, repeat
from typing import TypeAlias

import numpy as np

from llmkit.data.curation.language_model import END, LABEL, NO_ROW, LanguageModel, Numbers

Later: TypeAlias = list[tuple[Numbers, Numbers]]  # places of characters, bytes

BASIS, PRIME = np.uint32(2166136261), np.uint32(16777619)  # of the hash FNV-1a
SPACE = ord(" ")
FIRST_BYTE = -64  # of a character in UTF-8, as a signed number; a later byte is less
HALFWAY = 0.497  # of a unit in the last place; the usual `expf` errs by 0.502 of one at most
SURE_LEAD = 1e-4  # in the score's logarithm; a smaller one may be rounding's
LONGEST_REMEMBERED = 80  # bytes
MOST_REMEMBERED = 200_000  # words, about 30 MB


class LanguageScores:
    """A model, and the rows of the words that it has met."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.known: dict[bytes, bytes] = {}  # word -> what `rows_of` says
        self.end = np.int32(model.words[END]).tobytes()

    def likeliest(self, line: str) -> tuple[str, float] | None:
        """The likeliest label and its probability; None where fastText must say."""
        text = line.replace("\0", " ").encode()  # to fastText it parts words
        if END in text or LABEL in text:
            return None
        rows = np.frombuffer(self._rows(text.split()) + self.end, np.int32)
        hidden = np.add.reduce(self.model.rows.take(rows, axis=0), axis=0)
        hidden *= np.float32(1.0 / len(rows))
        return best_label(self.model, hidden)

    def _rows(self, words: list[bytes]) -> bytes:
        if len(self.known) > MOST_REMEMBERED:
            self.known.clear()
        found = list(map(self.known.get, words))
        new = list({word for word, rows in zip(words, found, strict=True) if rows is None})
        news = dict(zip(new, rows_of(self.model, new), strict=True)) if new else {}
        self.known |= {word: news[word] for word in new if len(word) <= LONGEST_REMEMBERED}
        pairs = zip(words, found, strict=True)
        return b"".join([news[word] if rows is None else rows for word, rows in pairs])


def rows_of(model: LanguageModel, words: list[bytes]) -> list[bytes]:
    """Of each word its own row, if it has one, and those of its pieces, as bytes of int32."""
    # No piece holds a space, and the first ones leave room for the steps back in `_pieces`.
    text = b" " * model.longest + b"<" + b"> <".join(words) + b">"
    characters, later = _characters(text)
    starts: Numbers = np.flatnonzero(characters == SPACE)[model.longest - 1 :] + 1
    table = _pieces(model, characters, later)
    table[starts, 0] = np.fromiter(map(model.words.get, words, repeat(NO_ROW)), np.int32)
    kept = table != NO_ROW
    rows = table[kept].tobytes()
    before = kept.sum(axis=1).cumsum()[starts - 1] * table.itemsize
    return [rows[start:end] for start, end in pairwise([*before.tolist(), len(rows)])]


def _pieces(model: LanguageModel, characters: Numbers, later: Later) -> Numbers:
    """By character: a place for a word's row, and the rows of the pieces that begin there."""
    table: Numbers = np.full(
        (len(characters), model.longest - model.shortest + 2), NO_ROW, np.int32
    )
    apart = broken = characters == SPACE
    hashes = np.full(len(characters), BASIS)
    number = np.uint32(len(model.buckets))
    for size in range(1, model.longest + 1):
        end = len(characters) - size + 1
        hashes = (hashes[:end] ^ characters[size - 1 :]) * PRIME
        for places, byte in later:
            hashes[places - size + 1] = (hashes[places - size + 1] ^ byte) * PRIME
        broken = broken[:end] | apart[size - 1 :]
        if size >= model.shortest:
            # The remainder, for which numpy takes twice as long.
            found = model.buckets.take(hashes - hashes // number * number)
            np.copyto(table[:end, size - model.shortest + 1], found, where=~broken)
    return table


def _characters(text: bytes) -> tuple[Numbers, Later]:
    """First bytes of all characters, and (places, bytes) of those with a second, third, fourth.

    Bytes are widened with their sign, as fastText hashes them.
    """
    signed = np.frombuffer(text, np.int8)
    wide = signed.astype(np.int32).view(np.uint32)
    if text.isascii():
        return wide, []
    firsts = np.flatnonzero(signed >= FIRST_BYTE)
    sizes = np.diff(firsts, append=len(text))
    longer = [(byte, np.flatnonzero(sizes > byte)) for byte in range(1, sizes.max())]
    return wide[firsts], [(places, wide[firsts[places] + byte]) for byte, places in longer]


@np.errstate(over="ignore", invalid="ignore")  # of a step that is all but impossible
def best_label(model: LanguageModel, hidden: Numbers) -> tuple[str, float] | None:
    """The likeliest label, None where its score or its lead hangs on a rounding."""
    powers = np.exp(-np.add.reduce(model.nodes * hidden[:, None], axis=0).astype(np.float64))
    right = _single(1.0 / (1 + _single(powers)).astype(np.float64)).astype(np.float64)
    left = _single(1.0 - right).astype(np.float64)
    steps = _single(np.log(np.concatenate([left, right, [1.0]]) + [1e-5]))
    steps[-1] = 0
    scores = np.add.reduce(steps[model.ways], axis=0)
    best = int(scores.argmax())
    score = np.exp(scores[best].astype(np.float64))
    passed = powers[model.ways[:, best] % len(powers)]
    if _halfway(np.append(passed, score)) or (scores > scores[best] - SURE_LEAD).sum() > 1:
        return None
    return model.labels[best], float(np.float32(score))


def _single(numbers: Numbers) -> Numbers:
    return numbers.astype(np.float32)


def _halfway(numbers: Numbers) -> bool:
    """Whether any of the numbers lies about halfway between two in single precision."""
    rounded = _single(numbers)
    return bool((np.abs(numbers - rounded) > HALFWAY * np.spacing(rounded)).any())
