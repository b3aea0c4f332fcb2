"""Real documents beside the project, for tests that compare with other libraries on them."""

from __future__ import annotations

import gzip
import json
import re
from functools import cache
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
BOOK_PIECE = 1500  # characters


def need(*names: str) -> list[Path]:
    """Paths below the shared data; the test is skipped where one is absent."""
    paths = [DATA / name for name in names]
    for path in paths:
        if not path.exists():
            pytest.skip(f"needs the real data beside the project: {path.name} is not there")
    return paths


@cache
def real_texts() -> list[str]:
    """Over 2,000 texts: C4, Common Crawl, TinyStories, WikiText, and pieces of books."""
    c4, dclm, stories, ccnet, dolma, wiki, books = need(
        "c4_llamafactory/c4_demo.jsonl",
        "splits/dclm_majority.jsonl",
        "splits/tinystories.jsonl",
        "cc_net_dolma/multiple_files/cc_en_head-0091.jsonl",
        "cc_net_dolma/provided/documents/000.json.gz",
        "wikitext2/valid.txt",
        "gutenberg",
    )
    texts = [row["text"] for file in (c4, dclm) for row in rows_of(file)]
    texts += [next(value for value in row.values() if len(value) > 50) for row in rows_of(stories)]
    texts += [row.get("text") or row["raw_content"] for row in rows_of(ccnet)]
    texts += [row["text"] for row in rows_of(dolma)]
    texts += filter(str.strip, re.split(r"(?m)^(?= = [^=])", wiki.read_text("utf-8")))
    for book in sorted(books.glob("*.txt")):
        text = book.read_text("utf-8", "replace")
        texts += [text[start : start + BOOK_PIECE] for start in range(0, len(text), 6 * BOOK_PIECE)]
    return texts


def rows_of(file: Path) -> list[dict[str, str]]:
    with gzip.open(file, "rt") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
