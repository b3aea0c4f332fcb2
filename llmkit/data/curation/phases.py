"""The phases of a curation: stretches of steps between which all documents are compared with all.

Steps that look at one document at a time form a phase, and each deduplicating step ends one. A
phase works on its blocks in any order and in any process. Where a phase ends, its documents and
their signatures lie on disk (`llmkit/data/curation/spill.py`); when its last block is committed the
signatures are clustered, and the next phase begins by leaving the duplicates out. Block 3 of a
phase holds what is left of block 3 of the one before, so that the output is cut as the input was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.data.curation.blocks import READ, Block, Commits, numbered
from llmkit.data.curation.dedup import Dedup
from llmkit.data.curation.filters import Dropped, Step
from llmkit.data.curation.removed import REMOVED_COLUMNS, Row, Samples
from llmkit.data.curation.spill import Spill
from llmkit.data.curation.workers import Tell
from llmkit.data.documents import Document, write_documents, write_rows

KEPT_TEXT = "kept_text"  # of a sampled duplicate: the text of the one that is kept


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Steps of one document, with their places, between the deduplicating ones at either end."""

    number: int
    steps: tuple[tuple[int, Step], ...]
    before: tuple[int, Dedup] | None
    after: tuple[int, Dedup] | None


def phases_of(steps: Sequence[Step]) -> list[Phase]:
    """Cut the steps after each `Dedup`. Place n + 1 is step n."""
    phases: list[Phase] = []
    before: tuple[int, Dedup] | None = None
    stretch: list[tuple[int, Step]] = []
    for place, step in enumerate(steps, start=1):
        if isinstance(step, Dedup):
            after = (place, step)
            phases.append(
                Phase(number=len(phases), steps=tuple(stretch), before=before, after=after)
            )
            before, stretch = after, []
        else:
            stretch.append((place, step))
    phases.append(Phase(number=len(phases), steps=tuple(stretch), before=before, after=None))
    return phases


@dataclass(slots=True)
class Job:
    """A block of a phase; the first phase brings its documents, which are let go one by one.

    `reading` is kept with the block: where the source stood after it.
    """

    phase: int
    index: int
    documents: list[tuple[int, Document]] | None = None
    reading: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Curation:
    """All that a worker has to know; it holds settings only.

    Attributes:
        out: gets `documents/` and `removed/`.
        scratch: gets the states and what lies between phases.
        samples: removed texts to keep of each rule.
    """

    out: Path
    scratch: Path
    sources: tuple[str, ...]
    steps: tuple[Step, ...]
    samples: int = 10
    seed: int = 0

    @property
    def names(self) -> list[str]:
        return [READ, *numbered([step.name for step in self.steps])]

    def phases(self) -> list[Phase]:
        return phases_of(self.steps)

    def commits(self, phase: int) -> Commits:
        return Commits(self.folder(phase), self.out)

    def folder(self, phase: int) -> Path:
        return self.scratch / f"phase-{phase}"

    def spill(self, phase: int) -> Spill:
        """What lies between this phase and the next."""
        return Spill(self.folder(phase))

    def load(self) -> None:
        """Read the lists and models that the steps need, before there are workers."""
        for step in self.steps:
            step.load()

    def work(self, job: Job, tell: Tell) -> int:
        """Do one block and commit it; returns its number."""
        phase = self.phases()[job.phase]
        block = Block(phase.steps, self.names, self.sources, Samples(self.samples, self.seed))
        fed = self._first(block, job, tell) if job.documents is not None else 0
        if phase.before is not None:
            fed = self._later(block, phase, job, tell)
        last = phase.after is None
        files = self._finish(block, job.index) if last else self._spill(block, phase, job.index)
        state = {
            "fed": fed,
            "kept": len(block.kept),
            "counts": block.funnel.to_rows(),
            "samples": block.samples.to_rows(),
            "reading": job.reading,
        }
        self.commits(job.phase).commit(job.index, files, state)
        return job.index

    def _first(self, block: Block, job: Job, tell: Tell) -> int:
        documents = job.documents or []
        number = len(documents)
        documents.reverse()
        while documents:
            source, document = documents.pop()
            block.read(document, source)
            tell(1)
        return number

    def _later(self, block: Block, phase: Phase, job: Job, tell: Tell) -> int:
        """Leave out the duplicates of the phase before, and send the others on."""
        if phase.before is None:
            return 0
        place, dedup = phase.before
        spill = self.spill(phase.number - 1)
        verdicts = spill.verdicts(job.index, dedup)
        numbers: dict[str, int] = {}
        for (source, document), duplicate in zip(spill.documents(job.index), verdicts, strict=True):
            if duplicate is None:
                block.send(document, source)
            else:
                numbers[duplicate.id] = duplicate.number
                dropped = Dropped(dedup.reason, duplicate.similarity, duplicate.id)
                block.remove(document, source, place, dropped)
            tell(1)
        for row in block.samples.rows():
            if row["step"] == self.names[place]:
                row[KEPT_TEXT] = spill.text(numbers[row["detail"]])[: len(row["text"])]
        return len(verdicts)

    def _spill(self, block: Block, phase: Phase, index: int) -> list[Path]:
        if phase.after is None:
            return []
        spill = self.spill(phase.number)
        files = spill.write(index, block.kept, phase.after[1])
        if block.removed:
            files.append(spill.file(index, "removed.parquet"))
            write_rows(files[-1], block.removed, REMOVED_COLUMNS)
        return files

    def _finish(self, block: Block, index: int) -> list[Path]:
        """Write a block of the output; of what is empty, no file."""
        block.count_kept()
        earlier = [row for rows in self._removed_before(index) for row in rows]
        folders = [self.out / kind / f"{index:05d}.parquet" for kind in ("documents", "removed")]
        if block.kept:  # load_dataset("parquet") cannot read a file without rows
            write_documents(folders[0], [document for _, document in block.kept])
        if removed := earlier + block.removed:
            write_rows(folders[1], removed, REMOVED_COLUMNS)
        return [file for file in folders if file.is_file()]

    def _removed_before(self, index: int) -> Iterator[list[Row]]:
        """Rows of what earlier phases removed of this block."""
        import pyarrow.parquet as pq

        for phase in self.phases()[:-1]:
            file = self.spill(phase.number).file(index, "removed.parquet")
            if file.is_file():
                yield pq.read_table(file).to_pylist()
