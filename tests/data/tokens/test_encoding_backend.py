"""Whatever encodes, the ids are those of tokenizers, and what gives others is not chosen."""

import importlib.util
import random

import numpy as np
import pytest

from llmkit.data.tokens import bpe, encoding_backend
from llmkit.data.tokens.encoding_backend import (
    TAILS,
    Choice,
    GigatokenBackend,
    TokenizersBackend,
    choose,
    needs_own_cut,
)
from llmkit.data.tokens.tokenizer_quality import HARD_STRINGS
from llmkit.errors import MissingExtraError

CORPUS = ["the theme then other mother don't", "aaa aaaa b 123 4567", "naïve 漢字\n\n  the"] * 3
FAST = pytest.mark.skipif(
    importlib.util.find_spec("gigatoken") is None, reason="gigatoken (extra [fast]) is missing"
)


def encoder(pattern="gpt4", digits=False, vocab_size=300):
    trained = bpe.train(CORPUS, vocab_size=vocab_size, pattern=bpe.split_pattern(pattern, digits))
    return bpe.plain_encoder(bpe.with_specials(trained, None))


def random_texts(count, seed=0):
    chance = random.Random(seed)
    letters = " \n\r\t\u00a0\u2028'sStTlLdDm09½éaéthe漢👩\u0301!?.,_-ſ\x00\x1c"
    return [
        "".join(
            chance.choice(letters)
            if chance.random() < 0.9
            else chr(chance.choice((chance.randint(0, 0xD7FF), chance.randint(0xE000, 0x10FFFF))))
            for _ in range(chance.randint(0, 30))
        )
        for _ in range(count)
    ]


def test_flat_ids_are_the_rows_one_after_another():
    backend = TokenizersBackend(encoder())
    ids, lengths = backend.encode(["the", "", "then <|end|>"])
    rows = [backend.encoder.encode(text).ids for text in ("the", "", "then <|end|>")]
    assert ids.tolist() == sum(rows, []) and lengths.tolist() == [len(row) for row in rows]
    assert all(part.size == 0 for part in backend.encode([]))


@FAST
@pytest.mark.parametrize(
    ("pattern", "digits"),
    [("gpt2", False), ("gpt4", False), ("gpt4", True), ("llama3", False), ("llama3", True),
     ("o200k", False)],
)  # fmt: skip
def test_gigatokens_ids_are_those_of_tokenizers(pattern, digits):
    exact = encoder(pattern, digits)
    fast, slow = GigatokenBackend(exact), TokenizersBackend(exact)
    ends = [text + tail for text in ("the", "a!", "") for tail in TAILS]
    texts = [*HARD_STRINGS, *ends, *CORPUS, *bpe.SPECIALS, *random_texts(2000)]
    (ids, lengths), (due, due_lengths) = fast.encode(texts), slow.encode(texts)
    assert lengths.tolist() == due_lengths.tolist() and ids.tolist() == due.tolist()
    for text in ends:  # alone, and as the only ones with their own cut
        assert fast.encode([text])[0].tolist() == slow.encode([text])[0].tolist()


@FAST
def test_it_is_built_anew_before_it_remembers_too_much(monkeypatch):
    monkeypatch.setattr(encoding_backend, "RENEW_BYTES", 10)
    backend = GigatokenBackend(encoder())
    first = backend._fast
    backend.encode(["more than ten characters"])
    assert backend._fast is first
    backend.encode(["x"])
    assert backend._fast is not first


@pytest.mark.parametrize(
    ("text", "odd"),
    [("", False), ("a", False), ("a ", False), ("a\n", False), ("a \n\n", False),
     ("a\n ", True), ("\r\u00a0", True), (" \n\t", True), ("a\n b", False)],
)  # fmt: skip
def test_which_ends_the_two_patterns_cut_differently(text, odd):
    assert needs_own_cut(text) == odd


def test_a_pattern_that_is_not_known_falls_back_and_says_why():
    choice = choose(encoder("gpt2", digits=True), "auto", CORPUS)
    assert choice.backend.name == "tokenizers"
    assert "no fast spelling" in choice.why or "not installed" in choice.why
    assert str(choice).startswith("tokenizers itself, since")


@FAST
def test_the_proof_is_counted_and_goes_on():
    choice = choose(encoder(), "auto", CORPUS)
    proof = len(CORPUS) + len(HARD_STRINGS) + len(TAILS)
    assert (choice.backend.name, choice.compared, choice.differing) == ("gigatoken", proof, [])
    choice.encode(CORPUS)
    assert choice.compared == proof + 1


class Wrong(GigatokenBackend):
    """As a backend that errs on one text."""

    def encode(self, texts):
        ids, lengths = super().encode(texts)
        at = texts.index(CORPUS[1]) if CORPUS[1] in texts else None
        if at is not None:
            ids = ids.copy()
            ids[lengths[:at].sum()] += 1
        return ids, lengths


@FAST
def test_a_backend_with_other_ids_is_not_chosen(monkeypatch):
    monkeypatch.setattr(encoding_backend, "GigatokenBackend", Wrong)
    choice = choose(encoder(), "auto", CORPUS)
    assert choice.backend.name == "tokenizers" and "other ids for 'aaa" in choice.why
    asked = choose(encoder(), "gigatoken", CORPUS)  # the stage's gate stops
    assert set(asked.differing) == {CORPUS[1]}


@FAST
def test_an_error_on_the_way_is_found():
    exact = encoder()
    choice = Choice(Wrong(exact), exact)
    choice.encode(CORPUS[:3])
    assert choice.differing == []
    choice.encode(CORPUS[:3])  # the second text's turn
    assert choice.differing == [CORPUS[1]]


def test_asked_for_and_missing_names_the_extra(monkeypatch):
    monkeypatch.setattr(encoding_backend.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"llmkit\[fast\]"):
        choose(encoder(), "gigatoken", CORPUS)
    assert choose(encoder(), "auto", CORPUS).why == "gigatoken is not installed"
    assert isinstance(choose(encoder(), "tokenizers", []).backend, TokenizersBackend)


@pytest.mark.slow
@FAST
def test_100_000_random_texts():
    exact = encoder(vocab_size=320)
    fast, slow = GigatokenBackend(exact), TokenizersBackend(exact)
    texts = random_texts(100_000, seed=1)
    (ids, lengths), (due, due_lengths) = fast.encode(texts), slow.encode(texts)
    assert np.array_equal(lengths, due_lengths) and np.array_equal(ids, due)
