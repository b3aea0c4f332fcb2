"""Limits: how much is taken, and that nothing is drawn beyond it."""

import pytest

from llmkit.build import Builder
from llmkit.data.documents import Document
from llmkit.data.sources.budget import Limit, budget, first, tokens_of
from llmkit.data.sources.table import PathSource
from llmkit.errors import InputError


def counted(drawn):
    for number in range(10):
        drawn.append(number)
        yield number


@pytest.mark.parametrize(
    ("limit", "taken"),
    [
        (None, 10),
        (3, 3),
        (Limit(documents=3), 3),
        (Limit(tokens=25), 3),  # ten tokens each: the third one reaches it
        (Limit(tokens=20), 2),
        (Limit(tokens=1), 1),
        (Limit(documents=2, tokens=25), 2),
        (Limit(documents=9, tokens=25), 3),
        (Limit(tokens=1000), 10),
    ],
)
def test_the_first_ones_up_to_the_limit_and_nothing_drawn_beyond(limit, taken):
    drawn = []
    assert list(first(counted(drawn), limit, lambda _: 10)) == list(range(taken))
    assert drawn == list(range(taken))


def test_tokens_are_the_rows_own_count_or_a_quarter_of_the_bytes():
    assert tokens_of(Document("x" * 100, "a", {"token_count": 7})) == 7
    assert tokens_of(Document("x" * 100, "a")) == 25
    assert tokens_of(Document("é" * 100, "a")) == 50  # two bytes each
    assert tokens_of(Document("x", "a", {"media_type": "text/plain"})) == 1


def test_the_tokens_of_a_page_are_not_guessed():
    with pytest.raises(InputError, match="only when its text is extracted.*limit the source's doc"):
        tokens_of(Document("<p>x", "page", {"media_type": "text/html"}))


def test_a_recipe_says_either_form():
    builder = Builder()
    for limit in (5, {"documents": 5}, {"tokens": 5_000}):
        builder.build(PathSource, {"path": "x", "limit": limit}, ("s",))
    assert not builder.problems
    for limit in ({}, {"tokens": 0}, {"token": 4}, "5M"):
        builder.build(PathSource, {"path": "x", "limit": limit}, ("s",))
    told = list(map(str, builder.problems))
    assert told[0] == "s.limit: limit: name `documents` or `tokens`"
    assert told[1] == "s.limit: limit: tokens: 0 is not positive"
    assert "no such key in Limit; did you mean tokens?" in told[2]
    assert "must be a whole number or a mapping (Limit)" in told[3]
    assert budget(5) == Limit(documents=5) and budget(None) is None
