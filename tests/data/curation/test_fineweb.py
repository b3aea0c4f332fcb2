"""FineWeb's rules at, below and above each threshold."""

import pytest

from llmkit.data.curation.fineweb import FineWebQuality


def verdict(text: str) -> tuple[str, float] | None:
    dropped = FineWebQuality().check(text)
    return None if dropped is None else (dropped.reason, dropped.figure)


def lines(count: int, end: str, start: int = 0, size: int = 40) -> list[str]:
    """Different lines of `size` characters that end in `end`."""
    return [
        f"line number {i:04d} says a thing of note ".ljust(size - 1, "x") + end
        for i in range(start, start + count)
    ]


def test_lines_that_end_in_punctuation_law():
    assert verdict("\n".join(lines(12, ".") + lines(88, "x", 100))) is None  # 0.12 exactly
    below = verdict("\n".join(lines(11, ".") + lines(89, "x", 100)))
    assert below == ("fineweb_line_punct_ratio", 0.11)


@pytest.mark.parametrize("mark", [".", "!", "?", '"', "'"])
def test_marks_that_end_a_line(mark):
    assert verdict("\n".join(lines(5, mark))) is None


def test_blank_lines_are_not_counted_among_the_lines():
    text = "\n \n".join(lines(2, ".") + lines(14, "x", 100))
    assert verdict(text) is None  # 2 of 16, not 2 of 31


def test_short_lines_law():
    short = [f"short {i:03d} and so on to thirty." for i in range(67)]
    assert {len(line) for line in short} == {30}
    assert verdict("\n".join(short + lines(33, "."))) is None  # 0.67 exactly
    above = verdict("\n".join([*short, "thirty characters are in here."] + lines(32, ".")))
    assert above == ("fineweb_short_line_ratio", 0.68)
    assert verdict("\n".join([line + "x." for line in short])) is None  # of 32 characters


def test_duplicated_characters_law():
    # One line of 40 characters twice: 40 of 40 * n characters.
    body = lines(98, ".")
    assert verdict("\n".join([*body, body[0], *lines(1, ".", 500)])) is None  # 40 / 4000 = 0.01
    above = verdict("\n".join([*body[:97], body[0], *lines(1, ".", 500)]))
    assert above == ("fineweb_char_dup_ratio", 40 / 3960)


def test_line_ends_per_word_law():
    long = "one-word-of-more-than-thirty-letters"  # nine words, hyphens among them as words
    assert len(long) > 30
    text = "".join(f"{'abcdefghij' * 3}{i}.\n\n" for i in range(10))
    found = verdict(text)  # 20 line ends, 20 words (the dots are words)
    assert found == ("fineweb_list_ratio", 1.0)
    three_in_ten = "\n\n\n".join(["these are seven words of some length here."] * 1) + "\n" * 2
    assert verdict(three_in_ten) is None  # 2 line ends, 9 words
