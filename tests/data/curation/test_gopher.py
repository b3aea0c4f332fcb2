"""Gopher's rules at, below and above each threshold, and against their naive definitions."""

import random
from collections import Counter

import pytest

from llmkit.data.curation.filters import split_words
from llmkit.data.curation.gopher import GopherQuality, GopherRepetition

QUALITY, REPETITION = GopherQuality(), GopherRepetition()
PROSE = ["the", "house", "and", "garden", "with", "trees"]  # mean 4.3 letters, 3 stop words


def text_of(num_words: int, *more: str) -> str:
    """`num_words` words of prose, those given in `more` among them."""
    words = [PROSE[i % len(PROSE)] for i in range(num_words - len(more))]
    return " ".join([*words, *more])


def quality(text: str) -> tuple[str, float] | None:
    dropped = QUALITY.check(text)
    return None if dropped is None else (dropped.reason, dropped.figure)


def test_document_length_law():
    assert quality(text_of(49)) == ("gopher_short_doc", 49)
    assert quality(text_of(50)) is None
    assert quality(text_of(100_000)) is None
    assert quality(text_of(100_001)) == ("gopher_long_doc", 100_001)


def test_symbols_are_not_counted_as_words_of_a_short_document():
    assert quality(text_of(49) + " . , !") == ("gopher_short_doc", 49)


@pytest.mark.parametrize(
    ("letters", "reason"),
    [(2, "gopher_below_avg_threshold"), (3, None), (10, None), (11, "gopher_above_avg_threshold")],
)
def test_mean_word_length_law(letters, reason):
    filler = 46 * letters + 4 * letters - len("thebe")  # so that the mean is exactly `letters`
    words = ["the", "be"] + ["x" * (filler // 48)] * 47
    words.append("x" * (50 * letters - sum(map(len, words))))
    assert sum(map(len, words)) == 50 * letters and len(words) == 50
    found = quality(" ".join(words))
    assert found == (None if reason is None else (reason, letters))


def test_hash_and_ellipsis_ratio_law():
    # Of 100 words in all, marks among them, 10 may be marks.
    assert quality(text_of(90) + " #" * 10) is None
    assert quality(text_of(89) + " #" * 11) == ("gopher_too_many_hashes", 0.11)
    assert quality(text_of(89) + " ..." * 10 + " end") is None
    assert quality(text_of(88) + " ..." * 6 + " …" * 5 + " end") == (
        "gopher_too_many_ellipsis",
        0.11,
    )


@pytest.mark.parametrize("bullet", ["•", "-"])
def test_bullet_lines_law(bullet):
    line = "the house and garden with trees\n"
    assert quality((f"  {bullet} {line}") * 9 + line) is None  # 0.9 exactly
    assert quality((f"{bullet} {line}") * 10 + line) == ("gopher_too_many_bullets", 10 / 11)


def test_ellipsis_line_ends_law():
    line = "the house and the garden with tall green trees"
    assert quality(f"{line}... \n" * 3 + f"{line}\n" * 7) is None  # 0.3 exactly
    ended = quality(f"{line}…\n" * 4 + f"{line}\n" * 6)
    assert ended == ("gopher_too_many_end_ellipsis", 0.4)


def test_words_with_letters_law():
    assert quality(text_of(80) + " 123" * 20) is None  # 0.8 exactly
    assert quality(text_of(79) + " 123" * 21) == ("gopher_below_alpha_threshold", 0.79)
    assert quality(text_of(79) + " 123" * 20 + " a1") is None  # one letter is enough
    assert quality(text_of(79) + " ," * 21) == ("gopher_below_alpha_threshold", 0.79)


def test_stop_words_must_be_two_different_ones():
    assert quality("the house " * 30) == ("gopher_enough_stop_words", 1)
    assert quality("The house With garden " * 20) == ("gopher_enough_stop_words", 0)
    assert quality("the house with garden " * 20) is None


def test_thresholds_are_settings():
    assert GopherQuality(min_doc_words=5).check("the house and the garden") is None


def unique_words(count: int, start: int = 0) -> list[str]:
    """Words of five letters, all different."""
    return [
        "".join(chr(97 + (i // 26**p) % 26) for p in range(5)) for i in range(start, start + count)
    ]


def reason_of(text: str) -> str | None:
    dropped = REPETITION.check(text)
    return None if dropped is None else dropped.reason


def test_text_without_repetition_passes():
    assert reason_of(" ".join(unique_words(200))) is None


def test_duplicate_lines_by_number_law():
    lines = unique_words(70)
    # 30 of 100 lines are copies; they are short beside the last line, so only their number counts.
    long = " ".join(unique_words(2000, start=5000))
    assert reason_of("\n".join([*lines[:69], *["abcde"] * 30, long])) is None  # 29 copies
    assert reason_of("\n".join([*lines[:69], *["abcde"] * 31, long])) is None  # 30 of 101 lines
    assert (
        reason_of("\n".join([*lines[:69], *["abcde"] * 33, long])) == "dup_line_frac"
    )  # 32 of 103


def test_duplicate_line_characters_law():
    # A line of `size` characters twice among 100 lines of 10: copies are size / total characters.
    body = [" ".join(pair) for pair in zip(unique_words(100), unique_words(100, 200), strict=True)]
    base = len("\n".join(body)) + 2

    def share(size: int) -> float:
        return size / (base + 2 * size)

    size = next(n for n in range(1, 2000) if share(n) > 0.2)
    for length, reason in ((size - 1, None), (size, "dup_line_char_frac")):
        line = (" ".join(unique_words(500, 9000)))[:length]
        dropped = GopherRepetition(
            duplicated_5_grams=1,
            duplicated_6_grams=1,
            duplicated_7_grams=1,
            duplicated_8_grams=1,
            duplicated_9_grams=1,
            duplicated_10_grams=1,
        ).check("\n".join([*body, line, line]))
        assert (dropped and dropped.reason) == reason
        if dropped:
            assert dropped.figure == pytest.approx(share(size))


def test_duplicate_paragraphs_law():
    long = " ".join(unique_words(2000, start=5000))
    paragraphs = unique_words(69)
    assert reason_of("\n\n".join([*paragraphs, *["abcde"] * 31, long])) is None  # 30 of 101
    assert reason_of("\n\n".join([*paragraphs, *["abcde"] * 33, long])) == "dup_para_frac"
    half = " ".join(unique_words(40))
    assert reason_of("\n\n".join([half, half, *unique_words(30, 700)])) == "dup_para_char_frac"


def test_top_ngram_law():
    # "ab cd" is 5 characters; k of them in 1000 characters of which the others never repeat.
    def text(times: int) -> str:
        others = unique_words(300)
        mixed = [
            piece for i in range(times) for piece in (others[2 * i], "ab cd", others[2 * i + 1])
        ]
        filled = " ".join(mixed)
        return filled + " " + "z" * (999 - len(filled))

    assert len(text(40)) == 1000
    assert reason_of(text(40)) is None  # 40 * 5 / 1000 = 0.20 exactly
    assert reason_of(text(41)) == "top_2_gram"


def test_repeated_ngrams_count_overlaps_once_and_without_spaces():
    # a b c d e a b c d e a b c d e: the second and third round are found, 2 * 5 letters of 29.
    text = "a b c d e " * 3 + "x" * 71
    dropped = GopherRepetition(top_2_gram=1, top_3_gram=1, top_4_gram=1, duplicated_5_grams=0.0)
    assert dropped.check(text.strip()).figure == pytest.approx(10 / len(text))


def naive_reason(text: str, settings: GopherRepetition) -> str | None:
    """The n-gram rules of table A1, written without any short cut."""
    words = list(split_words(text))
    for n in (2, 3, 4):
        grams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
        if grams:
            best, count = Counter(grams).most_common(1)[0]
            if len(best) * count / len(text) > getattr(settings, f"top_{n}_gram"):
                return f"top_{n}_gram"
    for n in range(5, 11):
        seen, characters, i = set(), 0, 0
        while i + n <= len(words):
            gram = "".join(words[i : i + n])
            characters += len(gram) if gram in seen else 0
            i += n if gram in seen else 1
            seen.add(gram)
        if characters / len(text) > getattr(settings, f"duplicated_{n}_grams"):
            return f"duplicated_{n}_grams"
    return None


def test_phrases_equal_the_naive_definition_on_random_texts():
    rng = random.Random(0)
    seen = Counter()
    for _ in range(400):
        vocabulary = unique_words(rng.choice([8, 30, 100, 400]))
        words = [rng.choice(vocabulary)[: rng.randint(1, 5)] for _ in range(rng.randint(3, 150))]
        if rng.random() < 0.7:
            at, size = rng.randrange(len(words)), rng.randint(5, 20)
            words += words[at : at + size] * rng.randint(1, 2)
        text = " ".join(words)
        expected = naive_reason(text, REPETITION)
        assert reason_of(text) == expected
        seen[expected] += 1
    assert len(seen) >= 8 and seen[None] > 20  # the comparison saw most of the rules


def test_one_word_is_no_error():
    assert reason_of("word") is None
