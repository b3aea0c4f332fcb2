"""Gutenberg's licence off, and long texts cut between their paragraphs."""

import pytest

from llmkit.data.curation.books import GutenbergBoilerplate, Split
from llmkit.data.curation.filters import Dropped
from llmkit.data.documents import Document

BOOK = """The Project Gutenberg EBook of A Book

*** START OF THIS PROJECT GUTENBERG EBOOK A BOOK ***

Chapter one.

She had read of a Project Gutenberg and of the END OF THIS PROJECT.

{end}

*** END OF THIS PROJECT GUTENBERG EBOOK A BOOK ***

*** START: FULL LICENSE ***
You may charge a fee.
"""
INSIDE = "Chapter one.\n\nShe had read of a Project Gutenberg and of the END OF THIS PROJECT."


def bare(text: str) -> Document | Dropped:
    return GutenbergBoilerplate().apply(Document(text, "book", {"url": "u"}))


@pytest.mark.parametrize(
    "end",
    [
        "",
        "End of the Project Gutenberg EBook of A Book, by\nSomebody",
        "End of Project Gutenberg’s A Book, by Somebody",
    ],
)
def test_only_the_book_stays(end):
    outcome = bare(BOOK.format(end=end))
    assert (outcome.text, outcome.id, outcome.metadata) == (INSIDE, "book", {"url": "u"})


def test_newer_wording_of_the_marks():
    mark = "OF THE PROJECT GUTENBERG EBOOK X"
    text = f"*** START {mark} ***\nbook\n***END {mark}"
    assert bare(text).text == "book"


def test_other_texts_pass_untouched():
    document = Document("No marks here. *** STARTLED", "a")
    assert GutenbergBoilerplate().apply(document) is document


def test_an_empty_book_is_dropped():
    assert bare(BOOK[: BOOK.index("Chapter")]).reason == "gutenberg_nothing_left"


def pieces(text: str, **settings: object) -> list[str]:
    outcome = Split(**settings).apply(Document(text, "t", {"url": "u"}))
    if isinstance(outcome, Document):
        return [outcome.text]
    assert [piece.id for piece in outcome] == [f"t#{i}" for i in range(len(outcome))]
    assert {piece.metadata["url"] for piece in outcome} == {"u"}
    return [piece.text for piece in outcome]


def test_paragraphs_are_grouped_up_to_the_bound():
    # "aaa" + blank line + "bbb" is 8 characters.
    text = "aaa\n\nbbb\n \n\ncccc\n\nd"
    assert pieces(text, max_characters=8) == ["aaa\n\nbbb", "cccc\n\nd"]
    assert pieces(text, max_characters=7) == ["aaa", "bbb", "cccc\n\nd"]
    assert pieces(text, max_characters=1) == ["aaa", "bbb", "cccc", "d"]


def test_a_long_paragraph_stays_whole_and_nothing_is_lost():
    text = "\n\n".join(["x" * 50, "short", "y" * 9, "z"])
    cut = pieces(text, max_characters=10)
    assert cut == ["x" * 50, "short", "y" * 9, "z"]
    assert "\n\n".join(cut) == text


def test_a_short_text_stays_the_same_document():
    document = Document("one\n\ntwo", "a")
    assert Split().apply(document) is document


def test_lines_that_match_begin_a_document():
    text = " \n = One = \n \n first \n = = Part = = \n more \n = Two = \n second "
    cut = pieces(text, at="^ = [^=]")
    assert [piece.splitlines()[0] for piece in cut] == [" = One = ", " = Two = "]
    assert "more" in cut[0] and "second" in cut[1]


@pytest.mark.parametrize("settings", [{"max_characters": 0}, {"at": "("}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Split(**settings)
