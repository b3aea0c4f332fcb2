"""Exact deduplication: what counts as the same text, and which one stays."""

import pickle

from llmkit.data.dedup import ExactDedup
from llmkit.data.documents import Document
from llmkit.data.filters import Dropped


def test_the_first_of_equal_texts_stays_and_is_named():
    step, memory = ExactDedup(), {}
    first = Document("A small  house.\n", "one")
    assert step.apply(first, memory) is first
    assert step.apply(Document("another", "two"), memory).id == "two"
    assert step.apply(Document("a SMALL house.", "three"), memory) == Dropped(
        "exact_duplicate", 1.0, "one"
    )
    assert list(memory.values()) == ["one", "two"]


def test_a_different_mark_or_word_is_a_different_text():
    step, memory = ExactDedup(), {}
    for text in ("a house", "a house.", "ahouse", "a  mouse"):
        assert isinstance(step.apply(Document(text, text), memory), Document)


def test_unicode_forms_are_equal_and_case_may_count():
    assert ExactDedup().digest("caf\u00e9") == ExactDedup().digest("cafe\u0301")
    assert ExactDedup(ignore_case=False).digest("A") != ExactDedup(ignore_case=False).digest("a")


def test_a_document_seen_again_under_the_same_id_is_a_duplicate():
    step, memory = ExactDedup(), {}
    step.apply(Document("text", "".join(["i", "d"])), memory)
    assert isinstance(step.apply(Document("text", "".join(["i", "d"])), memory), Dropped)


def test_memory_restored_from_a_file_finds_the_same_duplicates():
    step, memory = ExactDedup(), {}
    step.apply(Document("text", "one"), memory)
    restored = pickle.loads(pickle.dumps(memory))
    assert step.apply(Document("text", "two"), restored).detail == "one"
