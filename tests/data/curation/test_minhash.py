"""MinHash against exact set similarity and the published formula."""

import random

import numpy as np
import pytest

from llmkit.data.curation.minhash import MinHash
from llmkit.data.curation.minhash_signatures import normalised

WORDS = [f"{a}{b}{c}" for a in "bcdfgh" for b in "aeiou" for c in "lmnprst"]


def text(rng: random.Random, num_words: int) -> list[str]:
    return rng.choices(WORDS, k=num_words)


def shingles(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def jaccard(one: list[str], other: list[str]) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def pair(rng: random.Random, similarity: float) -> tuple[list[str], list[str]]:
    """Two texts of 200 n-grams that share a beginning: 2 s / (1 + s) of each one's n-grams."""
    shared = round(200 * 2 * similarity / (1 + similarity)) + 4
    head = text(rng, shared)
    return head + text(rng, 204 - shared), head + text(rng, 204 - shared)


def signed(texts: list[list[str]], **settings: int):
    return MinHash(**settings).signatures([" ".join(words) for words in texts])


def test_the_published_probabilities():
    found = [round(100 * MinHash().probability(s), 1) for s in (0.7, 0.75, 0.8, 0.85)]
    assert found == [56.5, 77.2, 92.4, 98.8]


@pytest.mark.parametrize("similarity", [0.6, 0.7, 0.8, 0.9])
def test_pairs_meet_as_often_as_the_formula_says(similarity):
    rng, num = random.Random(0), 800
    pairs = [pair(rng, similarity) for _ in range(num)]
    exact = np.array([jaccard(*both) for both in pairs])
    assert abs(exact.mean() - similarity) < 0.005
    keys = signed([words for both in pairs for words in both]).keys[:, 0]
    met = (keys[:, ::2] == keys[:, 1::2]).any(axis=0).mean()
    expected = float(np.mean([MinHash().probability(s) for s in exact]))
    assert abs(met - expected) < 3.5 * (expected * (1 - expected) / num) ** 0.5


def test_similarity_is_estimated_from_the_traces():
    rng = random.Random(1)
    pairs = [pair(rng, s) for s in (0.05, 0.3, 0.5, 0.72, 0.9) for _ in range(60)]
    traces = signed([words for both in pairs for words in both]).traces
    estimated = MinHash().similarities(traces[::2], traces[1::2])
    errors = estimated - np.array([jaccard(*both) for both in pairs])
    # The standard error of 112 hashes is at most sqrt(1/4/112) = 0.047.
    assert abs(errors.mean()) < 0.01 and errors.std() < 0.05
    assert MinHash().similarities(traces[:3], traces[:3]).tolist() == [1, 1, 1]


def test_a_signature_does_not_depend_on_its_neighbours():
    rng = random.Random(2)
    texts = [" ".join(text(rng, rng.choice((0, 1, 4, 5, 6, 30, 20_000)))) for _ in range(30)]
    whole = MinHash().signatures(texts)
    for number, alone in enumerate(map(MinHash().signatures, ([one] for one in texts))):
        assert (alone.keys[:, :, 0] == whole.keys[:, :, number]).all()
        assert (alone.traces[0] == whole.traces[number]).all()


def test_no_ngram_goes_over_the_end_of_a_text():
    one, other = signed([list("abcde"), list("fghij")]).keys[:, 0].T
    joined = signed([list("abcdefghij")]).keys[:, 0, 0]
    assert not (one == joined).all() and not (other == joined).all()
    twice = signed([list("abcde"), list("abcdeabcde")]).keys[:, 0]
    assert not (twice[:, 0] == twice[:, 1]).all()


def test_short_texts_are_one_ngram_and_empty_ones_have_none():
    keys = MinHash().signatures(["To be", "to  BE!", "to be or", "", " ?! "]).keys[:, 0]
    assert (keys[:, 0] == keys[:, 1]).all() and (keys[:, 0] != keys[:, 2]).all()
    assert not keys[:, 3:].any() and keys[:, :3].all()


def test_normalisation():
    assert normalised("It’s 3.5 km to Café Zoë, 12 o'clock!").split() == (
        "its 0 km to cafe zoe 0 oclock".split()
    )
    assert normalised("„Größe“ — ЁЖ № 7").split() == ["große", "еж", "0"]


def test_signatures_never_change():
    """Half-done work of an earlier process, or another machine, must fit."""
    found = MinHash().signatures(["the quick brown fox jumps over the lazy dog"])
    assert [int(key) for key in found.keys[:2, 0, 0]] == PINNED


PINNED = [15681545924764680679, 3260151829331962312]


def test_settings_are_checked():
    with pytest.raises(ValueError, match="num_buckets: 0 is not positive"):
        MinHash(num_buckets=0)
