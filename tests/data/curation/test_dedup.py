"""Exact deduplication: what counts as the same text."""

import numpy as np

from llmkit.data.curation.dedup import ExactDedup


def same(one: str, other: str, **settings: bool) -> bool:
    keys = ExactDedup(**settings).signatures([one, other]).keys
    assert keys.shape == (1, 2, 2) and keys.dtype == np.uint64
    return bool((keys[:, :, 0] == keys[:, :, 1]).all())


def test_letter_case_white_space_and_unicode_form_do_not_count():
    assert same("A small  house.\n", "a SMALL house.")
    assert same("caf\u00e9", "cafe\u0301")


def test_case_may_count():
    assert not same("A", "a", ignore_case=False)


def test_a_different_mark_or_word_is_a_different_text():
    for other in ("a house.", "ahouse", "a  mouse", ""):
        assert not same("a house", other)


def test_no_text_has_no_signature():
    assert ExactDedup().signatures([]).keys.shape == (1, 2, 0)
