"""What all sources of rows share: which rows are taken, where they lie, how sources are mixed.

A row is whatever its source makes of a line of data: a conversation, a preference pair, a prompt.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from llmkit.data.chat.chat_rows import FILES, file_rows, read
from llmkit.data.sources.readers import BadRows
from llmkit.errors import InputError

T = TypeVar("T")
SLICE = re.compile(r"(\w*)(?:\[(\d+%?)?:(\d+%?)?\])?")


@dataclass(frozen=True, kw_only=True)
class RowSource(Generic[T]):
    """Base of the sources.

    Attributes:
        weight: this source's share of the mix (see `mixed`); all sources have one, or none has.
        limit: rows taken at most, the first ones.
    """

    noun: ClassVar[str] = "row"  # what one row is called

    weight: float | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit: {self.limit} is not positive")
        if self.weight is not None and not self.weight > 0:
            raise ValueError(f"weight: {self.weight} is not positive")

    @property
    def label(self) -> str:
        """How figures name this source: the same on every machine."""
        raise TypeError(f"{type(self).__name__} has no label")

    def files(self) -> Iterator[Path]:
        """The local files that are read."""
        yield from ()

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        """The Hub data set that is read, with its revision."""
        yield from ()

    def rows(
        self,
        world: Mapping[str, Any],
        inputs: Mapping[str, Path | str],
        seed: int,
        bad_rows: BadRows,
    ) -> list[T]:
        """All rows of the source, the same ones in the same order every time.

        Raises:
            InputError: it is missing, broken or empty, or more rows are bad than allowed.
        """
        found = list(islice(self._rows(world, inputs, seed, bad_rows), self.limit))
        if not found:
            raise InputError(self.label, f"holds no {self.noun}", "name a source that has some")
        return found

    def _rows(
        self,
        world: Mapping[str, Any],
        inputs: Mapping[str, Path | str],
        seed: int,
        bad_rows: BadRows,
    ) -> Iterator[T]:
        yield from ()

    def _made_of(self, row: Mapping[str, Any]) -> Iterator[T]:
        """What a line of a file or Hub data set becomes. Raises ValueError where it is bad."""
        yield from ()


@dataclass(frozen=True, kw_only=True)
class PathRows(RowSource[T]):
    """`{path: FILE-OR-FOLDER}`: JSON Lines (.gz, .zst) or Parquet; of a folder, all such files.

    `split` takes a part of all rows, as `datasets` writes it: `[:90%]`, `[90%:]`, `[100:200]`. All
    rows are `train`, and no other word is known here.
    """

    path: str
    split: str = "train"

    def __post_init__(self) -> None:
        super().__post_init__()
        match = SLICE.fullmatch(self.split)
        if match is None:
            raise ValueError(f"split: {self.split!r} is not of the form [:90%] or [100:200]")
        if match[1] not in ("", "train"):
            raise ValueError(f"split: a path has no {match[1]!r}; take a part of it: [90%:], say")

    @property
    def label(self) -> str:
        return f"path:{Path(self.path).name}"

    def files(self) -> Iterator[Path]:
        path = Path(self.path).expanduser()
        if not path.exists():
            raise InputError(self.path, "no such file or folder", "check the path")
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        files = [file for file in found if file.name.endswith(FILES)]
        if not files:
            known = ", ".join(FILES)
            raise InputError(self.path, f"is or holds no file with one of {known}", "convert it")
        yield from files

    def _rows(
        self,
        world: Mapping[str, Any],
        inputs: Mapping[str, Path | str],
        seed: int,
        bad_rows: BadRows,
    ) -> Iterator[T]:
        found: list[T] = []
        for file in self.files():
            found += read(file_rows(file), f"{file}:", file.name, bad_rows, self._made_of)
        yield from sliced(found, self.split)


@dataclass(frozen=True, kw_only=True)
class HubRows(RowSource[T]):
    """`{hub: OWNER/NAME, name: CONFIG, revision: COMMIT, split: "train[:5000]"}`, by `datasets`."""

    hub: str
    name: str | None = None
    revision: str | None = None
    split: str = "train"

    @property
    def label(self) -> str:
        return f"hub:{self.hub}" + (f"/{self.name}" if self.name else "")

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        yield self.hub, self.revision

    def _rows(
        self,
        world: Mapping[str, Any],
        inputs: Mapping[str, Path | str],
        seed: int,
        bad_rows: BadRows,
    ) -> Iterator[T]:
        import datasets

        try:
            rows = datasets.load_dataset(
                self.hub, name=self.name, revision=self.revision, split=self.split
            )
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            raise InputError(
                self.label,
                next(iter(str(error).strip().splitlines()), type(error).__name__),
                "check the id, name, revision and split, and the connection to the Hub",
            ) from error
        numbered = enumerate(rows, start=1)
        yield from read(numbered, f"{self.label}, row ", self.hub, bad_rows, self._made_of)


def gathered(
    sources: Sequence[RowSource[T]],
    world: Mapping[str, Any],
    inputs: Mapping[str, Path | str],
    seed: int,
    bad_rows: BadRows,
) -> list[T]:
    """The rows of all sources, mixed by their weights."""
    groups = [source.rows(world, inputs, seed, bad_rows) for source in sources]
    return mixed(groups, [source.weight for source in sources], seed)


def sliced(rows: list[T], split: str) -> list[T]:
    """`rows[:90%]`: the part that a split of `datasets`' form names."""
    match = SLICE.fullmatch(split)
    if match is None:
        raise ValueError(f"split: {split!r} is not of the form [:90%] or [100:200]")
    _, start, end = match.groups()

    def at(bound: str | None, default: int) -> int:
        if bound is None:
            return default
        return round(len(rows) * int(bound[:-1]) / 100) if bound[-1] == "%" else int(bound)

    return rows[at(start, 0) : at(end, len(rows))]


def mixed(groups: Sequence[list[T]], weights: Sequence[float | None], seed: int) -> list[T]:
    """One list of all groups. With weights, group i has the share w_i / sum(w) of as many rows.

    A group smaller than its share is repeated whole as often as fits, the rest is drawn from it
    without replacement; from a larger one that many are drawn. The order is the groups' own.
    """
    if all(weight is None for weight in weights):
        return [row for group in groups for row in group]
    shares = [weight or 0.0 for weight in weights]
    total = sum(map(len, groups))
    rows: list[T] = []
    for number, (group, share) in enumerate(zip(groups, shares, strict=True)):
        repeats, rest = divmod(round(total * share / sum(shares)), len(group))
        drawn = random.Random(f"{seed}:mix:{number}").sample(range(len(group)), rest)
        rows += group * repeats + [group[index] for index in sorted(drawn)]
    return rows
