"""HellaSwag (https://arxiv.org/abs/1905.07830): which of four endings goes on from the text.

Roof shingle removal. A man is sitting on a roof. he -> starts pulling up roofing on a roof.

GPT-2's figures in this form: 124M .2955, 1558M .4893 (accuracy_norm over the 10,042 rows of the
validation split; https://github.com/karpathy/llm.c/blob/master/dev/data/hellaswag.py).
"""

from __future__ import annotations

import bz2
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Annotated, Any, ClassVar

from llmkit.data.chat.row_sources import HubRows, PathRows, RowSource, gathered, sliced
from llmkit.data.sources.readers import BadRows
from llmkit.errors import InputError
from llmkit.schema import Keyed
from llmkit.tasks.task import Choice, ChoiceTask

CHOICES = {
    "hub": "llmkit.tasks.hellaswag:HubChoices",
    "path": "llmkit.tasks.hellaswag:PathChoices",
}
SIX_LINES = (".txt", ".txt.bz2")


@dataclass(frozen=True, kw_only=True)
class HellaSwag(ChoiceTask):
    """The rows of `dataset`: the first `limit` of a seeded order, all when left out.

    Attributes:
        dataset: `{hub: Rowan/hellaswag, split: validation}`, or a path.
        max_bad_rows: rows in no known form that are left out before it is an error.
    """

    dataset: Annotated[list[Any], Keyed("llmkit.tasks.hellaswag:CHOICES")]
    max_bad_rows: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.dataset:
            raise ValueError("dataset: is empty; name a file, or Rowan/hellaswag on the Hub")
        if self.max_bad_rows < 0:
            raise ValueError(f"max_bad_rows: {self.max_bad_rows} is negative")

    def files(self) -> Iterator[Path]:
        for source in self.dataset:
            yield from source.files()

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        for source in self.dataset:
            yield from source.hub_data()

    def choices(self, world: Mapping[str, Any], seed: int) -> Iterator[Choice]:
        bad = BadRows(self.max_bad_rows)
        found: list[Choice] = gathered(self.dataset, world, {}, seed, bad)
        Random(f"{seed}:hellaswag").shuffle(found)
        yield from islice(found, self.limit)


@dataclass(frozen=True, kw_only=True)
class Choices(RowSource[Choice]):
    """Base of the sources: rows of `ctx`, `endings` and `label`, as the data set has them."""

    noun: ClassVar[str] = "choice"

    def _made_of(self, row: Mapping[str, Any]) -> Iterator[Choice]:
        yield choice_of(row)


@dataclass(frozen=True, kw_only=True)
class HubChoices(HubRows[Choice], Choices):
    """`{hub: Rowan/hellaswag, split: validation}`."""


@dataclass(frozen=True, kw_only=True)
class PathChoices(PathRows[Choice], Choices):
    """`{path: hellaswag_val.jsonl}`, or llama.cpp's form of it: `.txt` or `.txt.bz2` of six lines a
    row, which are the text, the number of the right ending and the endings
    (https://github.com/klosax/hellaswag_text_data).
    """

    def files(self) -> Iterator[Path]:
        path = Path(self.path).expanduser()
        if path.name.endswith(SIX_LINES) and path.is_file():
            yield path
        else:
            yield from super().files()

    def _rows(
        self,
        world: Mapping[str, Any],
        inputs: Mapping[str, Path | str],
        seed: int,
        bad_rows: BadRows,
    ) -> Iterator[Choice]:
        path = Path(self.path).expanduser()
        if not path.name.endswith(SIX_LINES):
            yield from super()._rows(world, inputs, seed, bad_rows)
            return
        yield from sliced([*self._made_of_lines(path)], self.split)

    def _made_of_lines(self, path: Path) -> Iterator[Choice]:
        """Raises InputError for a file whose lines are not six to a row."""
        try:
            data = path.read_bytes()
            text = (bz2.decompress(data) if path.suffix == ".bz2" else data).decode("utf-8")
        except (OSError, ValueError) as error:
            remedy = "give a text file of UTF-8, or one packed by bzip2"
            raise InputError(str(path), f"cannot be read ({error})", remedy) from error
        lines = text.rstrip("\n").split("\n")
        for start in range(0, len(lines), 6):
            said, right, *endings = (line.strip() for line in lines[start : start + 6])
            row = {"ctx": said, "label": right, "endings": endings}
            try:
                yield choice_of(row)
            except ValueError as error:
                what = f"the six lines from here are no choice: {error}"
                raise InputError(f"{path}:{start + 1}", what, "give six lines a row") from error


def choice_of(row: Mapping[str, Any]) -> Choice:
    """An ending follows the text after a space.

    Raises:
        ValueError: a column is missing, there are no two endings, or `label` names none of them.
    """
    missing = [name for name in ("ctx", "endings", "label") if name not in row]
    if missing:
        there = ", ".join(map(str, row)) or "none"
        raise ValueError(f"no column {missing[0]!r} (there are: {there})")
    text, endings, label = str(row["ctx"]).strip(), list(row["endings"]), str(row["label"])
    if not text:
        raise ValueError("'ctx' is empty")
    if len(endings) < 2 or not all(str(ending).strip() for ending in endings):
        raise ValueError(f"{len(endings)} endings, or an empty one, are no choice")
    if not label.isdecimal() or int(label) >= len(endings):
        raise ValueError(f"label {label!r} is the number of no ending")
    return Choice(text, [f" {ending}" for ending in endings], int(label))
