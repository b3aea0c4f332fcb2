"""Drops pages by their address: listed domains and URLs, and words that they hold.

FineWeb's first filter (https://arxiv.org/abs/2406.17557, section 3.2), after RefinedWeb's
(https://arxiv.org/abs/2306.01116, appendix G.1). Order and reading of the rules follow
https://github.com/huggingface/datatrove/blob/a649de79c14a550dc90f48a15c025f2dd3fd3b57/src/datatrove/pipeline/filters/url_filter.py
Domains are those of the Public Suffix List (https://publicsuffix.org) as tldextract ships it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from llmkit.data.curation.filters import Dropped, Step
from llmkit.data.documents import Document
from llmkit.errors import MissingExtraError

NO_WORD = re.compile(r"[^a-zA-Z0-9]+")
ARCHIVE = "url_filterblacklistsv0_3_0.tar.gz"  # in datatrove's wheel
INTEGRATED = {
    "domains": f"{ARCHIVE}!domains",
    "urls": f"{ARCHIVE}!urls",
    "banned_words": "banned_words.txt",
    "banned_subwords": "banned_subwords.txt",
    "soft_banned_words": "soft_banned_words.txt",
}


@dataclass(frozen=True, kw_only=True)
class Url(Step):
    """Drops documents whose `url` is on a list or holds a banned word; those without one pass.

    The lists are text files, one entry a line. `use_integrated_lists` adds those that FineWeb was
    made with, from the package datatrove.
    """

    name: ClassVar[str] = "url"

    domains: tuple[str, ...] = ()  # example.com, which bans a.example.com too; or a.example.com
    urls: tuple[str, ...] = ()  # whole, as the source writes them
    banned_words: tuple[str, ...] = ()  # one of them between marks is enough
    soft_banned_words: tuple[str, ...] = ()  # `soft_word_threshold` different ones are needed
    banned_subwords: tuple[str, ...] = ()  # anywhere in the letters and digits of the URL
    soft_word_threshold: int = 2
    use_integrated_lists: bool = False

    def __post_init__(self) -> None:
        for key in INTEGRATED:
            for file in getattr(self, key):
                if not Path(file).is_file():
                    raise ValueError(f"{key}: there is no file {file}")

    def files(self) -> Iterator[Path]:
        for key in INTEGRATED:
            yield from map(Path, getattr(self, key))

    def libraries(self) -> tuple[str, ...]:
        return ("tldextract", *(["datatrove"] if self.use_integrated_lists else []))

    def load(self) -> None:
        lists_of(self)

    def apply(self, document: Document) -> Document | Dropped:
        url = document.metadata.get("url")
        return (self.check(url) if url else None) or document

    def check(self, url: str) -> Dropped | None:
        """The first rule that `url` breaks.

        Raises:
            MissingExtraError: tldextract, or datatrove for its lists, is not installed.
        """
        lists = lists_of(self)
        parts = lists.extract(url)
        if (domain := parts.top_domain_under_public_suffix) in lists.domains:
            return Dropped("url_domain", 1, domain)
        if parts.fqdn in lists.domains:
            return Dropped("url_subdomain", 1, parts.fqdn)
        if url in lists.urls:
            return Dropped("url_listed", 1, url)
        words = set(NO_WORD.split(url))
        if found := words & lists.banned_words:
            return Dropped("url_banned_word", len(found), min(found))
        found = words & lists.soft_banned_words
        if len(found) >= self.soft_word_threshold:
            return Dropped("url_soft_banned_words", len(found), " ".join(sorted(found)))
        squashed = NO_WORD.sub("", url).lower()
        part = next((word for word in lists.banned_subwords if word in squashed), None)
        return None if part is None else Dropped("url_banned_subword", 1, part)


class Lists:
    """What a `Url` needs in memory: small lists as sets, long ones mapped."""

    def __init__(self, step: Url) -> None:
        if find_spec("tldextract") is None:
            raise MissingExtraError("tldextract", "web", "the step `url`")
        from tldextract import TLDExtract

        from llmkit.data.curation.url_lists import HashedList  # which needs numpy

        files = {key: _files(step, key) for key in INTEGRATED}
        self.extract: Any = TLDExtract(cache_dir=None, suffix_list_urls=())  # never the network
        self.domains, self.urls = HashedList(files["domains"]), HashedList(files["urls"])
        self.banned_words = _words(files["banned_words"])
        self.soft_banned_words = _words(files["soft_banned_words"])
        self.banned_subwords = tuple(sorted(_words(files["banned_subwords"])))


@cache
def lists_of(step: Url) -> Lists:
    """Loaded once a process, for each setting of the step."""
    return Lists(step)


def _files(step: Url, key: str) -> tuple[str, ...]:
    given: tuple[str, ...] = getattr(step, key)
    if not step.use_integrated_lists:
        return given
    package = find_spec("datatrove")
    if package is None or package.origin is None:
        raise MissingExtraError("datatrove", "cluster", "the step `url` with use_integrated_lists")
    return (*given, str(Path(package.origin).parent / "assets" / INTEGRATED[key]))


def _words(files: tuple[str, ...]) -> frozenset[str]:
    """Letters and digits only, small, as the words of a list are compared."""
    from llmkit.data.curation.url_lists import lines_of

    found = (NO_WORD.sub("", line).lower() for file in files for line in lines_of(file))
    return frozenset(filter(None, found))
