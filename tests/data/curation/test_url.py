"""URL rules one by one, in their order, and lists that are mapped rather than copied."""

import numpy as np
import pytest

from llmkit.data.curation import url, url_lists
from llmkit.data.curation.url import Url
from llmkit.data.curation.url_lists import HashedList
from llmkit.data.documents import Document
from llmkit.errors import MissingExtraError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    url.lists_of.cache_clear()


@pytest.fixture
def step(tmp_path) -> Url:
    lists = {
        "domains": "# a comment\nbad.com\nblog.host.co.uk\n\n",
        "urls": "https://ok.com/one\n",
        "banned_words": "Casino\n",
        "soft_banned_words": "hot\nfree\nnew\n",
        "banned_subwords": "por-n0\n",
    }
    for key, text in lists.items():
        (tmp_path / key).write_text(text)
    return Url(**{key: (str(tmp_path / key),) for key in lists})


@pytest.mark.parametrize(
    ("address", "reason", "detail"),
    [
        ("https://bad.com/x", "url_domain", "bad.com"),
        ("http://a.b.bad.com", "url_domain", "bad.com"),
        ("http://notbad.com", None, ""),
        ("http://blog.host.co.uk/", "url_subdomain", "blog.host.co.uk"),
        ("http://www.host.co.uk/", None, ""),
        ("https://ok.com/one", "url_listed", "https://ok.com/one"),
        ("https://ok.com/one/", None, ""),
        ("https://ok.com/best-casino.html", "url_banned_word", "casino"),
        ("https://ok.com/casinos", None, ""),
        ("https://ok.com/hot_new", "url_soft_banned_words", "hot new"),
        ("https://ok.com/hot/hot", None, ""),
        ("https://ok.com/xPO-RN/0", "url_banned_subword", "porn0"),
    ],
)
def test_rules(step, address, reason, detail):
    dropped = step.check(address)
    assert (dropped and dropped.reason) == reason
    assert dropped is None or dropped.detail == detail


def test_a_document_without_a_url_passes(step):
    document = Document(text="casino", id="")
    assert step.apply(document) is document


def test_the_files_belong_to_the_stages_inputs(step):
    assert {file.name for file in step.files()} == set(url.INTEGRATED)
    with pytest.raises(ValueError, match="banned_words: there is no file none"):
        Url(banned_words=("none",))


def test_a_list_is_mapped_from_one_file_in_8_bytes_an_entry(tmp_path):
    names = [f"d{number}.com" for number in range(5000)]
    (tmp_path / "list").write_text("\n".join(names))
    hashed = HashedList((str(tmp_path / "list"),))
    assert isinstance(hashed.hashes, np.memmap) and not hashed.hashes.flags.writeable
    assert hashed.hashes.nbytes == 8 * 5000
    assert all(name in hashed for name in names)
    assert not any(f"e{number}.com" in hashed for number in range(5000))
    (cached,) = url_lists.cache_folder().iterdir()
    stamp = cached.stat().st_mtime_ns
    HashedList((str(tmp_path / "list"),))
    assert cached.stat().st_mtime_ns == stamp  # read, not made again
    (tmp_path / "list").write_text("other.com")
    assert "d1.com" not in HashedList((str(tmp_path / "list"),))


def test_an_empty_list_holds_nothing():
    assert "a.com" not in HashedList(())


def test_without_the_extra_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(url, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"tldextract is not installed; .*llmkit\[web\]"):
        Url().load()


@pytest.mark.slow
def test_finewebs_own_lists_come_from_datatrove():
    lists = url.lists_of(Url(use_integrated_lists=True))
    assert len(lists.domains) > 4_500_000 and len(lists.urls) > 19_000
    assert len(lists.banned_words) > 200 and len(lists.banned_subwords) > 100
