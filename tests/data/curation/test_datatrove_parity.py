"""Every verdict on over 2,000 real documents against datatrove's, with which FineWeb is made.

Where datatrove hangs on more than the document, or its present defaults are not those that FineWeb
was made with, the test says so.
"""

import copy
import warnings

import numpy as np
import pytest
from datatrove.data import Document as TroveDocument
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LanguageFilter,
    URLFilter,
)
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION
from real_texts import need, real_texts, rows_of
from tldextract import TLDExtract

from llmkit.data.curation.c4 import C4Quality
from llmkit.data.curation.filters import Dropped
from llmkit.data.curation.fineweb import FineWebQuality
from llmkit.data.curation.gopher import SYMBOLS, GopherQuality, GopherRepetition
from llmkit.data.curation.language import Language, model_of
from llmkit.data.curation.pii import Pii
from llmkit.data.curation.url import Url
from llmkit.data.documents import Document

# Our reasons are unique in a run; datatrove's are unique in a filter.
REASONS = {
    **{f"duplicated_{n}_grams": f"duplicated_{n}_n_grams" for n in range(5, 11)},
    "c4_lorem_ipsum": "lorem_ipsum",
    "c4_curly_bracket": "curly_bracket",
    "c4_too_few_sentences": "too_few_sentences",
    "fineweb_line_punct_ratio": "line_punct_ratio",
    "fineweb_short_line_ratio": "short_line_ratio",
    "fineweb_char_dup_ratio": "char_dup_ratio",
    "fineweb_list_ratio": "list_ratio",
    "url_domain": "domain",
    "url_subdomain": "subdomain",
    "url_listed": "url",
    "url_banned_word": "hard_blacklisted",
    "url_soft_banned_words": "soft_blacklisted",
    "url_banned_subword": "blacklisted_subword",
}
FINEWEB_STOPS = tuple(".'\"!?")  # datatrove's default since FineWeb-2 is every script's full stops

pytestmark = pytest.mark.slow


def ours(step, text: str, **metadata) -> tuple[bool, str, str]:
    """Kept or not, datatrove's word for the reason, and the text that goes on."""
    outcome = step.apply(Document(text=text, id="", metadata=metadata))
    if isinstance(outcome, Dropped):
        return False, REASONS.get(outcome.reason, outcome.reason), ""
    return True, "", outcome.text


def theirs(trove, text: str, **metadata) -> tuple[bool, str, str]:
    document = TroveDocument(text=text, id="", metadata=metadata)
    verdict = trove.filter(document)
    if isinstance(verdict, tuple):
        return verdict[0], verdict[1], ""
    return bool(verdict), "", document.text if verdict else ""


@pytest.mark.parametrize(
    ("step", "trove"),
    [
        (GopherRepetition(), GopherRepetitionFilter()),
        (GopherQuality(), GopherQualityFilter()),
        (C4Quality(), C4QualityFilter(filter_no_terminal_punct=False)),
        (FineWebQuality(), FineWebQualityFilter(stop_chars=FINEWEB_STOPS)),
        (FineWebQuality(stop_chars="".join(TERMINAL_PUNCTUATION)), FineWebQualityFilter()),
    ],
    ids=["gopher_repetition", "gopher_quality", "c4", "fineweb", "fineweb, stops of FineWeb-2"],
)
@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_filters_drop_the_same_documents_for_the_same_reasons(step, trove):
    """Edited texts (C4) must be equal too."""
    texts = real_texts()
    assert len(texts) >= 2000
    verdicts = [(ours(step, text), theirs(trove, text)) for text in texts]
    assert [pair for pair in verdicts if pair[0] != pair[1]] == []
    assert len({reason for _, (_, reason, _) in verdicts}) > 1  # something was dropped


def test_symbols_are_datatroves():
    assert SYMBOLS == PUNCTUATION_SET


class NumpyScores:
    """fastText's official binding gives numpy scores, which datatrove relies on; ours floats."""

    def __init__(self) -> None:
        self.model = model_of(None)

    def predict(self, text: str, k: int):
        found = self.model.predict(text + "\n", k, 0.0, "strict")
        return [label for _, label in found], np.array([score for score, _ in found])


@pytest.mark.parametrize("languages", [["en"], ["de", "fr"], None])
def test_language_by_the_same_model(languages, monkeypatch):
    """datatrove reads lid.176.bin; here both read lid.176.ftz."""
    monkeypatch.setattr(LanguageFilter, "_requires_dependencies", [])  # of another binding
    trove = LanguageFilter(languages=languages)
    trove.model._model = NumpyScores()
    step = Language(keep=tuple(languages or ()))
    for text in [*real_texts()[::3], "Der Hund läuft im Garten.", "Le chien court.", "x y"]:
        document = TroveDocument(text=text, id="")
        kept = bool(trove.filter(document))
        outcome = step.apply(Document(text=text, id=""))
        assert kept == isinstance(outcome, Document)
        language, score = step.scores(text)[0]
        assert language == document.metadata["language"]
        assert score == pytest.approx(document.metadata["language_score"], abs=1e-6)


def test_personal_data_is_replaced_alike():
    """datatrove's replacements go round over all documents; a fresh formatter begins anew."""
    mails = [row["full_text"] for row in _presidio()]
    fresh = PIIFormatter()
    for text in [
        *real_texts(),
        *mails,
        "a.b@c.de, x@[1.2.3.4] 8.8.8.8 10.0.0.1 08.8.8.8 1.2.3.4.5",
    ]:
        assert Pii().apply(Document(text=text, id="")).text == copy.deepcopy(fresh).format(text)


def _presidio():
    import json

    (file,) = need("presidio_pii/synth_dataset_v2.json")
    return json.loads(file.read_text("utf-8"))


def test_urls_are_dropped_for_the_same_reasons(tmp_path):
    (domains,) = need("ut1_blacklists/gambling__domains")
    words = ["casino", "free", "poker", "blog", "news", "hot"]
    lists = {
        "domains": [*domains.read_text().split("\n")[::3], "blog.example.net"],
        "urls": ["https://example.com/a", "http://www.example.org/"],
        "banned_words": words[:2],
        "soft_banned_words": words[2:],
        "banned_subwords": ["pornhub", "xxx"],
    }
    for key, entries in lists.items():
        (tmp_path / key).write_text("\n".join(filter(None, entries)))
    step = Url(**{key: (str(tmp_path / key),) for key in lists})
    named = {"domains": "extra_domains", "urls": "extra_urls"}
    trove = URLFilter(
        use_integrated_lists=False,
        **{named.get(key, key): list(filter(None, lines)) for key, lines in lists.items()},
    )
    trove.tldextractor = TLDExtract(cache_dir=None, suffix_list_urls=())  # never the network
    (gold,) = need("built_warc/dev_gold.jsonl")
    urls = [row["url"] for row in rows_of(gold)]
    urls += [f"http://www.{domain}/x" for domain in lists["domains"][:500] if domain]
    urls += [f"https://site.co.uk/{a}-{b}?{c}" for a in words for b in words for c in ("XXX", "y")]
    urls += ["http://blog.example.net/", "http://a.blog.example.net/", "http://example.net/"]
    urls += [
        *lists["urls"],
        "http://[::1]/free",
        "no url",
        "http://a.b.ck/",
        "ftp://1.2.3.4/casino",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # tldextract's, of datatrove's use
        verdicts = [(ours(step, "a", url=url), theirs(trove, "a", url=url)) for url in urls]
    assert [(u, pair) for u, pair in zip(urls, verdicts, strict=True) if pair[0] != pair[1]] == []
    assert len({reason for (_, reason, _), _ in verdicts}) == 7
