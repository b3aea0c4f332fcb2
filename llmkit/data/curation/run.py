"""Runs the phases of a curation, goes on where a kill left them, and adds up their blocks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llmkit.data.curation.feed import Feed, noted
from llmkit.data.curation.funnel import Funnel
from llmkit.data.curation.phases import Curation, Job, Phase
from llmkit.data.curation.removed import Samples
from llmkit.data.curation.workers import Workers
from llmkit.progress import Progress
from llmkit.run_dir import write_json

READ_TO_THE_END = "read.json"  # says of the first phase how many blocks there are
CLUSTERS = "clusters.json"


@dataclass
class Outcome:
    """What all blocks of all phases come to.

    Attributes:
        clusters: place of a deduplicating step -> figures of its clusters.
        faults: what was bad or set aside in the sources.
    """

    funnel: Funnel
    samples: Samples
    clusters: dict[int, dict[str, Any]] = field(default_factory=dict)
    faults: dict[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """One try at a curation; what an earlier try committed is taken over."""

    curation: Curation
    feed: Feed
    num_proc: int
    label: str
    size: int | None = None  # input documents, where that is known
    blocks: int = 0  # known when the sources were read to the end

    def run(self) -> Outcome:
        """Do every block that is not there yet."""
        with Workers(self.curation, self.num_proc, self.label) as workers:
            for phase in self.curation.phases():
                self._phase(phase, workers)
        return self._outcome()

    def _phase(self, phase: Phase, workers: Workers) -> None:
        done = self._take_over(phase)
        if phase.number == 0:
            if self.blocks and len(done) == self.blocks:
                return
            jobs, size = self._fresh(done), self.size
        else:
            missing = [index for index in range(self.blocks) if index not in done]
            before_this = self.curation.folder(phase.number - 1)
            if not missing and (before_this / CLUSTERS).is_file():
                return
            self._judge(phase)
            before = self.curation.commits(phase.number - 1)
            size = sum(before.state(index)["kept"] for index in range(self.blocks))
            jobs = (Job(phase.number, index) for index in missing)
        commits = self.curation.commits(phase.number)
        with Progress(self._label(phase), size, "documents") as progress:
            progress.start_at(sum(commits.state(index)["fed"] for index in done))
            for _ in workers.results(jobs, progress.update):
                pass

    def _take_over(self, phase: Phase) -> set[int]:
        """The blocks of an earlier try that are whole; what belongs to no such block goes."""
        folder, out = self.curation.folder(phase.number), self.curation.out
        folder.mkdir(parents=True, exist_ok=True)
        commits = self.curation.commits(phase.number)
        with Progress(f"{self._label(phase)}, checking what is there", None, "blocks") as progress:
            done = commits.whole(progress.update)
        finished = [out / "documents", out / "removed"] if phase.after is None else []
        commits.clean(done, [folder, *finished])
        if phase.number == 0 and (folder / READ_TO_THE_END).is_file():
            self.blocks = self._read(0, READ_TO_THE_END)["blocks"]
        return done

    def _fresh(self, done: set[int]) -> Iterator[Job]:
        """The first phase's jobs; at their end the number of blocks is known."""
        together = 0
        while together in done:
            together += 1
        behind = self.curation.commits(0).state(together - 1)["reading"] if together else None
        self.blocks = max(done, default=-1) + 1
        for job in self.feed.jobs(done, behind):
            self.blocks = max(self.blocks, job.index + 1)
            yield job
            del job  # or its documents would be held while the next ones are read
        faults = noted(self.feed.bad_rows)
        path = self.curation.folder(0) / READ_TO_THE_END
        write_json(path, {"blocks": self.blocks, "faults": faults})

    def _judge(self, phase: Phase) -> None:
        """Cluster what the phase before has signed. Done again by every try: it takes seconds."""
        spill = self.curation.spill(phase.number - 1)
        write_json(spill.folder / CLUSTERS, spill.judge(self.blocks))

    def _label(self, phase: Phase) -> str:
        if phase.before is None:
            return self.label
        return f"{self.label}, after {self.curation.names[phase.before[0]]}"

    def _outcome(self) -> Outcome:
        samples = Samples(self.curation.samples, self.curation.seed)
        outcome = Outcome(Funnel(), samples)
        for phase in self.curation.phases():
            commits = self.curation.commits(phase.number)
            for index in range(self.blocks):
                state = commits.state(index)
                outcome.funnel.add(Funnel.from_rows(state["counts"]))
                samples.add(state["samples"])
            if phase.after is not None:
                outcome.clusters[phase.after[0]] = self._read(phase.number, CLUSTERS)
        outcome.faults = self._read(0, READ_TO_THE_END)["faults"]
        return outcome

    def _read(self, phase: int, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.curation.folder(phase) / name).read_bytes())
        return found
