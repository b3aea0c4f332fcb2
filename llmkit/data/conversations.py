"""Where conversations come from: a Hub data set, a file, the embedded `tinyworld`, another stage.

Every source gives conversations in TRL's form, `[{"role", "content"}, ...]`. Rows are recognised
by their columns (`llmkit.data.chat_rows`), and a bad one is named with its file and line.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from llmkit.data.chat_rows import FILES, Messages, read, read_file
from llmkit.data.readers import BadRows
from llmkit.data.tinyworld.conversations import Mix
from llmkit.errors import InputError
from llmkit.schema import Refers

CONVERSATIONS = {
    "hub": "llmkit.data.conversations:HubConversations",
    "path": "llmkit.data.conversations:PathConversations",
    "tinyworld": "llmkit.data.conversations:TinyworldConversations",
    "stage": "llmkit.data.conversations:StageConversations",
}
HELD_OUT = {
    "hub": "llmkit.data.conversations:HubConversations",
    "path": "llmkit.data.conversations:PathConversations",
    "tinyworld": "llmkit.data.conversations:TinyworldConversations",
}
SLICE = re.compile(r"(\w*)(?:\[(\d+%?)?:(\d+%?)?\])?")


@dataclass(frozen=True, kw_only=True)
class ConversationSource:
    """Base of the sources.

    Attributes:
        weight: this source's share of the mix (see `mixed`); all sources have one, or none has.
        limit: conversations taken at most, the first ones.
    """

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

    def conversations(
        self,
        world: Mapping[str, Any],
        inputs: Mapping[str, Path | str],
        seed: int,
        bad_rows: BadRows,
    ) -> list[Messages]:
        """All conversations of the source, the same ones in the same order every time.

        Raises:
            InputError: it is missing, broken or empty, or more rows are bad than allowed.
        """
        rows = list(islice(self._rows(world, inputs, seed, bad_rows), self.limit))
        if not rows:
            raise InputError(self.label, "holds no conversation", "name a source that has some")
        return rows

    def _rows(
        self,
        world: Mapping[str, Any],
        inputs: Mapping[str, Path | str],
        seed: int,
        bad_rows: BadRows,
    ) -> Iterator[Messages]:
        yield from ()


@dataclass(frozen=True, kw_only=True)
class PathConversations(ConversationSource):
    """`{path: FILE-OR-FOLDER}`: JSON Lines (.gz, .zst) or Parquet; of a folder, all such files.

    `split` takes a part of all rows, as `datasets` writes it: `[:90%]`, `[90%:]`, `[100:200]`. All
    rows are `train`, and no other word is known here.
    `language` chooses among OpenAssistant's trees.
    """

    path: str
    split: str = "train"
    language: str = "en"

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
    ) -> Iterator[Messages]:
        rows = [chat for file in self.files() for chat in read_file(file, bad_rows, self.language)]
        yield from sliced(rows, self.split)


@dataclass(frozen=True, kw_only=True)
class StageConversations(ConversationSource):
    """`{stage: NAME}`: what an earlier stage of the recipe wrote, prompts with its completions."""

    stage: Annotated[str, Refers("conversations")]

    @property
    def label(self) -> str:
        return f"stage:{self.stage}"

    def _rows(
        self,
        world: Mapping[str, Any],
        inputs: Mapping[str, Path | str],
        seed: int,
        bad_rows: BadRows,
    ) -> Iterator[Messages]:
        for file in sorted(Path(inputs[self.stage]).glob("*.jsonl")):
            yield from read_file(file, bad_rows)


@dataclass(frozen=True, kw_only=True)
class HubConversations(ConversationSource):
    """`{hub: OWNER/NAME, name: CONFIG, revision: COMMIT, split: "train[:5000]"}`, by `datasets`."""

    hub: str
    name: str | None = None
    revision: str | None = None
    split: str = "train"
    language: str = "en"

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
    ) -> Iterator[Messages]:
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
        yield from read(numbered, f"{self.label}, row ", self.hub, bad_rows, self.language)


@dataclass(frozen=True, kw_only=True)
class TinyworldConversations(ConversationSource):
    """`{tinyworld: conversations, num_conversations: 20000}`, of the recipe's `world`.

    `split: heldout` has wordings, names and sums that training never sees; `mix` says what the
    turns are about.
    """

    tinyworld: Literal["conversations"]
    num_conversations: int = 20_000
    split: Literal["train", "heldout"] = "train"
    mix: Mix | None = None

    @property
    def label(self) -> str:
        return f"tinyworld:{self.split}"

    def _rows(
        self,
        world: Mapping[str, Any],
        inputs: Mapping[str, Path | str],
        seed: int,
        bad_rows: BadRows,
    ) -> Iterator[Messages]:
        from llmkit.data.tinyworld.conversations import conversations
        from llmkit.data.tinyworld.world import World

        num = self.num_conversations
        for row in conversations(World(**world), num, seed, self.split, self.mix):
            yield row["messages"]


def gathered(
    sources: Sequence[ConversationSource],
    world: Mapping[str, Any],
    inputs: Mapping[str, Path | str],
    seed: int,
    bad_rows: BadRows,
) -> list[Messages]:
    """The conversations of all sources, mixed by their weights."""
    groups = [source.conversations(world, inputs, seed, bad_rows) for source in sources]
    return mixed(groups, [source.weight for source in sources], seed)


def sliced(rows: list[Messages], split: str) -> list[Messages]:
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


def mixed(
    groups: Sequence[list[Messages]], weights: Sequence[float | None], seed: int
) -> list[Messages]:
    """One list of all groups. With weights, group i has the share w_i / sum(w) of as many rows.

    A group smaller than its share is repeated whole as often as fits, the rest is drawn from it
    without replacement; from a larger one that many are drawn. The order is the groups' own.
    """
    if all(weight is None for weight in weights):
        return [row for group in groups for row in group]
    shares = [weight or 0.0 for weight in weights]
    total = sum(map(len, groups))
    rows: list[Messages] = []
    for number, (group, share) in enumerate(zip(groups, shares, strict=True)):
        repeats, rest = divmod(round(total * share / sum(shares)), len(group))
        drawn = random.Random(f"{seed}:mix:{number}").sample(range(len(group)), rest)
        rows += group * repeats + [group[index] for index in sorted(drawn)]
    return rows
