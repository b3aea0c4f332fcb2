"""n-grams of words found in training text: against a search by plain sets of tuples."""

from __future__ import annotations

import random

import numpy as np
import pytest

from llmkit.data import overlap
from llmkit.data.overlap import Found, Overlap, hashes_of, words_of

LONG = "the quick brown fox jumps over the lazy dog today"  # 10 words


def found(examples: list[list[str]], texts: list[str]) -> Found:
    finder = Overlap({"task": examples})
    finder.read(texts)
    return finder.found()["task"]


def test_words_have_no_case_and_no_punctuation() -> None:
    assert words_of("What's 27 + 45?\n(Été)") == ["what", "s", "27", "45", "été"]
    ascii_text = "".join(f"{chr(number)}aB_{chr(number)}" for number in range(128))
    assert words_of(ascii_text) == words_of(ascii_text + " é")[:-1]


@pytest.mark.parametrize(
    ("text", "overlaps"),
    [
        (LONG, True),
        ("It said: The quick brown fox, jumps over THE LAZY!", True),  # the first 8
        ("brown fox jumps over the lazy dog today", True),  # the last 8
        ("quick brown fox jumps over the lazy", False),  # 7
        ("the quick brown fox jumped over the lazy dog today", False),  # one word is another
        ("the quick brown fox", False),
        ("", False),
    ],
)
def test_eight_words_in_a_row_overlap(text: str, overlaps: bool) -> None:
    assert found([[LONG]], [text]) == Found(judged=1, overlapping=[0] * overlaps)


def test_no_ngram_goes_over_the_end_of_a_text() -> None:
    first, second = LONG[: LONG.index(" over")], LONG[LONG.index("over") :]
    assert found([[LONG]], [f"{first} {second}"]).overlapping == [0]
    assert found([[LONG]], [first, second]).overlapping == []
    assert found([[first, second]], [LONG]).overlapping == [0]  # five words, whole


def test_short_examples_are_matched_whole_by_their_longest_text() -> None:
    examples = [["What is 27 + 45?", "72"], ["What is 3 + 5?", "8"], ["sky?", "blue"]]
    texts = ["Bob: what is 27 + 45 then?", "72", "blue sky", "What is 3 + 6?"]
    assert found(examples, texts) == Found(judged=2, overlapping=[0])
    # A long text beside them decides alone: a short question is asked everywhere.
    assert found([["What is 27 + 45?", LONG]], texts) == Found(judged=1, overlapping=[])


def test_nothing_to_judge() -> None:
    assert found([], [LONG]) == Found(judged=0, overlapping=[])
    assert found([["sky?"], []], [LONG]) == Found(judged=0, overlapping=[])
    assert found([["sky?"]], []).share == 0.0


def test_many_random_texts_as_sets_of_tuples_find_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "BATCH_WORDS", 50)
    choose = random.Random(0)

    def text(low: int, high: int) -> str:
        return " ".join(choose.choices("abc", k=choose.randint(low, high)))

    examples = [[text(1, 14), text(1, 6)] for _ in range(400)]
    texts = [text(0, 30) for _ in range(150)]
    grams = {
        (n, tuple(words[i : i + n]))
        for words in map(str.split, texts)
        for n in range(4, 9)
        for i in range(len(words) - n + 1)
    }

    def overlapping(spoken: list[list[str]]) -> bool:
        n = min(8, max(map(len, spoken)))
        whole = spoken if n == 8 else [max(spoken, key=len)]
        return any((n, tuple(w[i : i + n])) in grams for w in whole for i in range(len(w) - n + 1))

    split = [[t.split() for t in example] for example in examples]
    judged = [spoken for spoken in split if max(map(len, spoken)) >= 4]
    wanted = [i for i, s in enumerate(split) if max(map(len, s)) >= 4 and overlapping(s)]
    assert found(examples, texts) == Found(judged=len(judged), overlapping=wanted)
    assert 20 < len(wanted) < len(judged) - 20


def test_hashes_tell_windows_apart() -> None:
    numbers = np.random.default_rng(0).integers(1, 4, 20_000)
    windows = {tuple(numbers[i : i + 8]) for i in range(len(numbers) - 7)}
    assert len(set(hashes_of(numbers, 8).tolist())) == len(windows)
    assert (hashes_of(numbers[100:110], 8) == hashes_of(numbers, 8)[100:103]).all()
    assert len(hashes_of(numbers[:7], 8)) == 0
