"""The n-grams of evaluation sets, and the search for them in a document.

`llmkit/data/curation/decontamination.py` says what an n-gram is.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.data.curation.decontamination import SHORTEST
from llmkit.data.overlap import hashes_of, words_of
from llmkit.errors import InputError

JSON_LINES = (".jsonl", ".json", ".ndjson")
SEPARATED = {".csv": ",", ".tsv": "\t"}


class Index:
    """The n-grams of all examples, sorted, each with the first example that has it.

    A document's n-gram is known by 64 bits: a million wanted ones give 5e-11 false hits a document
    of 1,000 words.
    """

    def __init__(self, sets: tuple[str, ...], ngram: int) -> None:
        self.numbers: dict[str, int] = {}  # of every word that some example has, from 1
        self.names: list[str] = []
        found: dict[int, tuple[list[NDArray[Any]], list[NDArray[Any]]]] = {}
        for file in sets:
            for row, texts in enumerate(examples_of(Path(file)), start=1):
                self.names.append(f"{Path(file).name}:{row}")
                self._add([words_of(text) for text in texts], ngram, found)
        self.wanted: dict[int, tuple[NDArray[Any], NDArray[Any]]] = {}
        for length, (hashes, owners) in found.items():
            unique, first = np.unique(np.concatenate(hashes), return_index=True)
            self.wanted[length] = (unique, np.concatenate(owners)[first])

    def _add(
        self,
        spoken: list[list[str]],
        ngram: int,
        found: dict[int, tuple[list[NDArray[Any]], list[NDArray[Any]]]],
    ) -> None:
        longest = max(map(len, spoken), default=0)
        length = min(ngram, longest)
        if length < SHORTEST:
            return
        known = self.numbers
        for words in spoken:
            numbers = [known.setdefault(word, len(known) + 1) for word in words]
            hashes = hashes_of(np.array(numbers, dtype=np.int64), length)
            lists = found.setdefault(length, ([], []))
            lists[0].append(hashes)
            lists[1].append(np.full(len(hashes), len(self.names) - 1))

    def find(self, text: str) -> tuple[int, list[str]]:
        """How many n-grams of `text` some example has, and the names of those examples."""
        get = self.numbers.get
        numbers = np.array([get(word, 0) for word in words_of(text)], dtype=np.int64)
        unknown = np.concatenate([[0], np.cumsum(numbers == 0)])
        hits, owners = 0, set()
        for length, (wanted, owner) in self.wanted.items():
            if len(numbers) < length:
                continue
            hashes = hashes_of(numbers, length)[unknown[length:] == unknown[:-length]]
            places = np.searchsorted(wanted, hashes).clip(max=len(wanted) - 1)
            found = places[wanted[places] == hashes]
            hits += len(found)
            owners.update(owner[found].tolist())
        return hits, [self.names[number] for number in sorted(owners)]


@cache
def index_of(sets: tuple[str, ...], ngram: int) -> Index:
    """Built once a process."""
    return Index(sets, ngram)


def examples_of(file: Path) -> Iterator[list[str]]:
    """The texts of each example of a file.

    Raises:
        InputError: the file is of no known kind, or a row of it is broken.
    """
    kind = file.name.removesuffix(".gz")
    if kind.endswith(JSON_LINES):
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                yield _json_texts(line, f"{file}:{number}")
    elif kind[-4:] in SEPARATED:
        with file.open(encoding="utf-8", errors="replace", newline="") as rows:
            yield from csv.reader(rows, delimiter=SEPARATED[kind[-4:]])
    elif kind.endswith(".txt"):
        yield from ([line] for line in file.read_text("utf-8", "replace").splitlines())
    else:
        what = "is no file of examples"
        raise InputError(str(file), what, "give JSON Lines, .csv, .tsv or .txt")


def _json_texts(line: bytes, where: str) -> list[str]:
    try:
        return list(texts_of(json.loads(line))) if line.strip() else []
    except (ValueError, RecursionError) as error:
        raise InputError(where, f"not JSON: {error}", "write one object a line") from error


def texts_of(value: object) -> Iterator[str]:
    """All texts in a JSON value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)
