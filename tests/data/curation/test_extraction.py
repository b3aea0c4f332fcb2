"""Extraction in a child: what comes out, and pages that would never end."""

import time

import pytest

from llmkit.data.curation import extraction
from llmkit.data.curation.extraction import Extract, child_of, close_children
from llmkit.data.curation.filters import Dropped
from llmkit.data.documents import Document
from llmkit.errors import MissingExtraError

ARTICLE = "The river rose in the night and the people of the town went up the hill. " * 8
PAGE = f"""<html><head><title>Flood</title></head><body>
<nav><a href="/">Home</a> <a href="/about">About us</a></nav>
<article><h1>Flood</h1><p>{ARTICLE}</p><p>{ARTICLE}</p></article>
<footer>Copyright 2020. All rights reserved.</footer></body></html>"""
RESILIPARSE = Extract(engine="resiliparse")


def page(text: str, kind: str = "text/html") -> Document:
    return Document(text=text, id="a", metadata={"media_type": kind, "url": "u"})


@pytest.mark.parametrize("engine", ["trafilatura", "resiliparse"])
def test_the_article_stays_and_the_menu_goes(engine):
    outcome = Extract(engine=engine).apply(page(PAGE))
    assert "The river rose" in outcome.text and "About us" not in outcome.text
    assert outcome.metadata == {"media_type": "text/plain", "url": "u"} and outcome.id == "a"
    assert Extract(engine=engine).apply(page(PAGE)).text == outcome.text


def test_plain_text_passes():
    for document in (page("<p>a</p>", "text/plain"), Document(text="<p>a</p>", id="")):
        assert RESILIPARSE.apply(document) is document


def test_a_page_without_text_is_dropped():
    assert RESILIPARSE.apply(page("<html></html>")).reason == "extraction_empty"


def fake_engine(monkeypatch, tmp_path, body: str) -> None:
    """A child module whose extraction is `body`, in place of the real one."""
    (tmp_path / "fake_child.py").write_text(
        "from llmkit.data.curation import extraction_child as child\n"
        "def engine():\n"
        "    def extract(html):\n"
        f"        {body}\n"
        "        return html\n"
        "    return extract\n"
        "child.ENGINES['resiliparse'] = engine\n"
        "child.main()\n"
    )
    monkeypatch.setattr(extraction, "CHILD", "fake_child")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.fixture(autouse=True)
def no_child_stays():
    yield
    close_children()


def test_a_page_that_never_ends_is_given_up_and_the_next_one_is_served(monkeypatch, tmp_path):
    fake_engine(monkeypatch, tmp_path, "while 'spin' in html: pass")
    step = Extract(engine="resiliparse", timeout=0.3)
    started = time.monotonic()
    assert step.apply(page("spin")) == Dropped("extraction_timeout", 0.3)
    assert time.monotonic() - started < 60
    assert step.apply(page("calm")).text == "calm"


def test_a_page_that_takes_all_memory_is_dropped_alone(monkeypatch, tmp_path):
    fake_engine(monkeypatch, tmp_path, "'big' in html and bytearray(1 << 40)")
    step = Extract(engine="resiliparse", max_memory_mb=512)
    assert step.apply(page("big")) == Dropped("extraction_memory", 1, "MemoryError")
    process = child_of(step).process.pid
    assert step.apply(page("small")).text == "small"
    assert child_of(step).process.pid == process  # the child lived on


def test_a_child_that_dies_is_replaced(monkeypatch, tmp_path):
    fake_engine(monkeypatch, tmp_path, "'die' in html and __import__('os')._exit(3)")
    assert RESILIPARSE.apply(page("die")) == Dropped("extraction_crash", 3)
    assert RESILIPARSE.apply(page("live")).text == "live"


def test_an_error_names_itself_and_printing_does_no_harm(monkeypatch, tmp_path):
    fake_engine(monkeypatch, tmp_path, "print('noise'); 'bad' in html and int('x')")
    assert RESILIPARSE.apply(page("bad")) == Dropped("extraction_error", 1, "ValueError")
    assert RESILIPARSE.apply(page("good")).text == "good"


@pytest.mark.parametrize("engine", ["trafilatura", "resiliparse"])
def test_hostile_pages_end_in_a_text_or_a_reason(engine):
    step = Extract(engine=engine, timeout=2)
    deep, open_tags = "<div>" * 10_000 + "deep", "<p" * 50_000
    for html in (deep, open_tags, "\ud800 lone", "\x00\x01", "]]>" * 1000, "<" * 100_000):
        assert isinstance(step.apply(page(html)), Document | Dropped)
    assert "river" in step.apply(page(PAGE)).text


def test_settings_and_the_missing_extra(monkeypatch):
    with pytest.raises(ValueError, match="timeout: 0 is not positive"):
        Extract(timeout=0)
    monkeypatch.setattr(extraction, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="trafilatura is not installed"):
        Extract().load()
