"""From sources to blocks: one process reads the documents in their order and cuts them.

Blocks are cut where the input says, at a number of documents or of characters, so the same sources
always give the same blocks. Each block notes the position behind it. A later run goes on there: it
skips the sources and parts before it unread, and reads again only the part that the block ends in.
Where sources are mixed by weights, or taken by tokens, it reads them again from their start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from llmkit.data.curation import blocks
from llmkit.data.curation.phases import Job
from llmkit.data.documents import Document
from llmkit.data.sources.budget import Limit, budget, first, tokens_of
from llmkit.data.sources.mixing import mixed
from llmkit.data.sources.quarantine import Quarantine
from llmkit.data.sources.readers import BadRows
from llmkit.data.sources.source import Source
from llmkit.errors import InputError
from llmkit.progress import Progress

T = TypeVar("T")


@dataclass(kw_only=True)
class Position:
    """Where reading stands: `taken` documents of a part were given, and before that part `given` of
    its source and `total` of all. `faults` had been noted before the part."""

    source: int = 0
    part: int = 0
    taken: int = 0
    given: int = 0
    total: int = 0
    faults: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Feed:
    """The documents of the sources, in blocks of `block_documents`."""

    sources: Sequence[Source]
    world: Mapping[str, Any]
    seed: int
    limit: int | Limit | None
    max_bad_rows: int | None
    block_documents: int
    label: str

    def __post_init__(self) -> None:
        self.bad_rows = BadRows(self.max_bad_rows)
        self.position = Position(faults=noted(self.bad_rows))

    def jobs(self, done: set[int], behind: Mapping[str, Any] | None) -> Iterator[Job]:
        """The blocks that are not `done`, in order.

        Args:
            behind: the position after the blocks 0, 1, ... that are done without a gap, which are
                then not read again; None to read from the start.
        """
        index = 0
        if behind is not None and self.seekable:
            self.position = Position(**behind["position"])
            index = behind["blocks"]
            restore(self.bad_rows, self.position.faults)
        documents: list[tuple[int, Document]] = []
        fed = characters = 0
        with Progress(f"{self.label}, up to where it was", None, "documents") as again:
            for source, document in self._all():
                fed += 1
                characters += len(document.text)
                if index in done:
                    again.update()
                else:
                    documents.append((source, document))
                if fed >= self.block_documents or characters >= blocks.BLOCK_CHARACTERS:
                    if index not in done:
                        yield self._job(index, documents)
                    index, documents, fed, characters = index + 1, [], 0, 0
        if documents:
            yield self._job(index, documents)

    def _job(self, index: int, documents: list[tuple[int, Document]]) -> Job:
        reading = {"position": asdict(self.position), "blocks": index + 1}
        return Job(0, index, documents, reading)

    @property
    def seekable(self) -> bool:
        """Whether a position says all that reading on from it takes."""
        bounds = [budget(limit) for limit in (self.limit, *(item.limit for item in self.sources))]
        by_tokens = any(bound is not None and bound.tokens is not None for bound in bounds)
        return not by_tokens and all(source.weight is None for source in self.sources)

    def _all(self) -> Iterator[tuple[int, Document]]:
        start = self.position  # it moves when the first document is given
        streams = [self._of(number, start) for number in range(len(self.sources))]
        together = mixed(streams, [source.weight for source in self.sources])
        given = self.position.total + self.position.taken
        yield from rest(together, self.limit, given, lambda item: tokens_of(item[1]))

    def _of(self, number: int, start: Position) -> Iterator[Document]:
        """One source's documents, from the position `start` on."""
        source = self.sources[number]
        if number < start.source:
            return
        resumed = number == start.source
        part, taken, given = (start.part, start.taken, start.given) if resumed else (0, 0, 0)
        empty = given + taken == 0
        stream = self._parts(number, part, taken, given)
        for document in rest(stream, source.limit, given + taken, tokens_of):
            empty = False
            yield document
        if empty and not self.bad_rows.quarantine.counts:
            raise InputError(
                source.label,
                f"holds no documents ({self.bad_rows.count} bad rows)"
                if self.bad_rows.count
                else "holds no documents",
                "check the source, or leave it out",
            )

    def _parts(self, number: int, start: int, skipped: int, given: int) -> Iterator[Document]:
        """The documents of the parts from `start` on, without the first `skipped`."""
        total = self.position.total + (0 if number == self.position.source else self.position.taken)
        for at, part in enumerate(self.sources[number].parts()[start:], start=start):
            faults = noted(self.bad_rows)
            taken = 0
            for document in part.documents(self.world, self.seed, self.bad_rows):
                taken += 1
                if taken <= skipped:
                    continue
                self.position = Position(
                    source=number, part=at, taken=taken, given=given, total=total, faults=faults
                )
                yield document
            skipped = 0
            given += taken
            total += taken


def rest(
    stream: Iterator[T], limit: int | Limit | None, given: int, tokens: Callable[[T], int]
) -> Iterator[T]:
    """What a limit leaves of a stream of which `given` documents were taken before."""
    bound = budget(limit)
    if given and bound is not None and bound.documents is not None:
        if given >= bound.documents:
            return iter(())
        bound = replace(bound, documents=bound.documents - given)
    return first(stream, bound, tokens)


def noted(bad_rows: BadRows) -> dict[str, Any]:
    """What was noted so far, JSON-able; `restore` is the inverse."""
    quarantine = bad_rows.quarantine
    return {
        "count": bad_rows.count,
        "named": list(bad_rows.named),
        "where": [list(pair) for pair in bad_rows.where],
        "set_aside": dict(quarantine.counts),
        "first": list(quarantine.named),
        "passed_over": dict(quarantine.passed_over),
    }


def restore(bad_rows: BadRows, faults: Mapping[str, Any]) -> None:
    bad_rows.count, bad_rows.named = faults["count"], list(faults["named"])
    bad_rows.where = [(where, what) for where, what in faults["where"]]
    bad_rows.quarantine = Quarantine()
    bad_rows.quarantine.counts.update(faults["set_aside"])
    bad_rows.quarantine.named += faults["first"]
    bad_rows.quarantine.passed_over.update(faults["passed_over"])
