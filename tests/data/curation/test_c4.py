"""C4's line and page rules, by hand."""

import pytest

from llmkit.data.curation.c4 import C4Quality
from llmkit.data.curation.filters import Dropped
from llmkit.data.documents import Document

FIVE = "One two three. Four five six! Seven eight nine? Ten eleven twelve. And once more."


def clean(text: str, **settings: int) -> str | Dropped:
    outcome = C4Quality(**settings).apply(Document(text, "a", {"url": "u"}))
    if isinstance(outcome, Dropped):
        return outcome
    assert (outcome.id, outcome.metadata) == ("a", {"url": "u"})
    return outcome.text


def test_a_clean_document_passes_untouched():
    document = Document(FIVE, "a")
    assert C4Quality().apply(document) is document


def test_fewer_than_five_sentences_drop_the_document():
    assert clean("One two three. " * 4) == Dropped("c4_too_few_sentences", 4)
    assert clean("One two three. " * 5) == ("One two three. " * 5).strip()


def test_every_line_holds_at_least_one_sentence():
    assert clean("a line without an end\n" * 5) == "\n".join(["a line without an end"] * 5)


@pytest.mark.parametrize(
    "line",
    [
        "Two words",
        "Please enable JavaScript to go on",
        "Read our Terms of Use before you go",
        "This site uses cookies for all it does",
        "See the Privacy Policy of this shop",
        "word " * 3 + "x" * 1001,
        "   ",
    ],
)
def test_lines_that_are_no_prose_go(line):
    assert clean(f"{FIVE}\n{line}\n{FIVE}") == f"{FIVE}\n{FIVE}"


def test_lines_just_within_the_bounds_stay():
    three, long = "Just three words", "a b " + "x" * 1000
    assert clean(f"{FIVE}\n{three}\n{long}") == f"{FIVE}\n{three}\n{long}"


def test_citation_marks_go_and_lines_are_stripped():
    text = f"  {FIVE} [1][23] Moon[edit] and sun[citation needed], see [a].  "
    assert clean(text) == f"{FIVE}  Moon and sun, see [a]."


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Here is Lorem Ipsum dolor sit", "c4_lorem_ipsum"),
        ("if (x) { return the value; }", "c4_curly_bracket"),
    ],
)
def test_templates_and_programs_drop_the_document(line, reason):
    assert clean(f"{FIVE}\n{line}") == Dropped(reason, 2, "line 2")


def test_a_bracket_in_a_line_that_is_removed_anyway_drops_nothing():
    assert clean(f"{FIVE}\nvar javascript = {'{}'}") == FIVE
    assert clean(f"{FIVE}\n{{ x") == FIVE


def test_nothing_left_is_dropped_whatever_the_settings():
    assert clean("Two words", min_num_sentences=0) == Dropped("c4_too_few_sentences", 0)
