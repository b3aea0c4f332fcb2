"""Words and sentences against spaCy itself, by hand, and at the edges of the memory."""

import random
import re

import pytest
import spacy
from datatrove.utils.word_tokenizers import load_word_tokenizer
from real_texts import real_texts
from spacy.symbols import ORTH

from llmkit.data.curation import english_words
from llmkit.data.curation.english_exceptions import exceptions
from llmkit.data.curation.english_words import WORDS, count_sentences, rows, words_of


@pytest.fixture(scope="module")
def referee():
    """datatrove's English tokenizer: spaCy's blank pipeline with its sentencizer."""
    return load_word_tokenizer("eng")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 3.5km (e.g., here)...", "It|'s|3.5|km|(|e.g.|,|here|)|..."),
        ("don't cannot I'll've gonna", "do|n't|can|not|I|'ll|'ve|gon|na"),
        (
            "see https://example.com/a?b=1, or a@b.co.",
            "see|https://example.com/a?b=1|,|or|a@b.co|.",
        ),
        ("state-of-the-art and/or end.Next", "state|-|of|-|the|-|art|and/or|end|.|Next"),
        ("U.S. Mr. Smith's $5.00 50% C++", "U.S.|Mr.|Smith|'s|$|5.00|50|%|C++"),
        ("so:) or so :-) (^_^)", "so|:)|or|so|:-)|(^_^)"),
        (" two  spaces\n\n", "two|spaces"),
        ("", ""),
    ],
)
def test_words_by_hand(text, words):
    assert "|".join(words_of(text)) == words


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("One.", 1),
        ("One. Two! Three?", 3),
        ('He said "Stop." Then he left.', 2),
        ("Mr. Smith pays 3.5 dollars, e.g. here.", 1),
        ("Wait... what?!  Yes", 2),  # the second of two spaces begins the sentence; "..." ends none
        ("no end", 1),
    ],
)
def test_sentences_by_hand(text, number):
    assert count_sentences(text) == number


def test_exceptions_are_those_of_spacy():
    rules = spacy.blank("en").tokenizer.rules
    wanted = {word: tuple(piece[ORTH] for piece in rule) for word, rule in rules.items()}
    assert {word for word in wanted if word.isspace()} == {" ", "\t", "\n", "\xa0"}
    assert exceptions() == {word: rule for word, rule in wanted.items() if not word.isspace()}


PIECES = [
    *"aZéßЖжא中ʔ0159٣$£€+-*^=/:;<>.,…'’‘\"“”()[]{}_#&%²°~–—|§@!?。，é①㈠☺⺀",
    *["......", "--", "---", "——", "……", "US$", "C$", "km", "m²", "lb", "°C", "http://", "www."],
    *["a@b.co", ".com", "192.168.1.1", "8.8.8.8:80", "'s", "’S", "n't", "1.", "A.B.", "%)", "😀"],
]


def random_text(chance: random.Random) -> str:
    """Pieces that the rules speak of, exceptions, white space and any characters, at random."""
    parts = []
    for _ in range(chance.randint(1, 9)):
        kind = chance.random()
        if kind < 0.65:
            parts.append(chance.choice(PIECES))
        elif kind < 0.8:
            parts.append(chance.choice(list(exceptions())))
        elif kind < 0.95:
            parts.append(chance.choice([" ", "  ", "\t", "\n\n", " \u3000"]))
        else:
            parts.append(chr(chance.randrange(32, 0x2FFF)))
    return "".join(parts)


def differences(texts: list[str], referee) -> list[str]:
    return [
        text
        for text in texts
        if list(words_of(text)) != referee.word_tokenize(text)
        or count_sentences(text) != max(1, len(referee.span_tokenize(text)))
    ]


def test_random_texts_fall_into_words_and_sentences_as_spacy_has_them(referee):
    chance = random.Random(0)
    assert differences([random_text(chance) for _ in range(1500)], referee) == []


@pytest.mark.slow
def test_more_random_texts(referee):
    chance = random.Random(1)
    assert differences([random_text(chance) for _ in range(20_000)], referee) == []


@pytest.mark.slow
def test_every_character_at_every_place(referee):
    """Alone, before, between and after letters and digits, of the first 0x3000 characters."""
    characters = [chr(point) for point in range(0x3000) if not chr(point).isspace()]
    texts = [f"{c} a{c} {c}a a{c}b 1{c} {c}1 1{c}2 A{c}B a.{c} {c}{c}" for c in characters]
    assert differences(texts, referee) == []


@pytest.mark.slow
def test_real_texts_fall_into_words_as_spacy_has_them(referee):
    texts = real_texts()
    assert len(texts) >= 2000
    assert [text for text in texts if list(words_of(text)) != referee.word_tokenize(text)] == []


def test_a_row_over_white_space_hides_an_exception_as_in_spacy(referee):
    """Found by the rows themselves: one exception's beginning before another's chunk."""
    texts = [
        f"x{first[:size]} {''.join(first[size:])}y {word}"
        for first in list(rows().words)[:60]
        for size in range(1, len(first))
        for word in ("so:)", "a8)", "x(;y")
    ]
    texts = [re.sub("[(),']{4,}", "", text) for text in texts]
    assert differences(texts, referee) == []


def test_what_is_remembered_stays_bounded(monkeypatch):
    monkeypatch.setattr(english_words, "MOST_REMEMBERED", 50)
    before = words_of("so:) it's")
    for number in range(300):
        words_of(f"word{number}, x{number}:)")
    assert len(WORDS) < 60 and len(WORDS.rejoined) < 60
    assert words_of("so:) it's") == before == ("so", ":)", "it", "'s")


def test_a_chunk_without_end_is_one_word():
    """spaCy's time is quadratic there; 20,000 brackets take it seconds, a million hours."""
    brackets = "(" * 1_000_000
    assert words_of(brackets) == (brackets,)
    assert len(words_of("(" * 5_000)) == 5_000
