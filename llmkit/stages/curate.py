"""The `curate` stage: raw documents in, good ones out, and a reason for every one removed.

Writes `documents/NNNNN.parquet` in FineWeb's columns, `removed/NNNNN.parquet` (why each removed
document went), `removed_samples.jsonl` (the text of some, by rule) and `stats.json` (the funnel).
The rules and where they are published stand in the modules that `llmkit/data/curation/steps.py`
names; how the work is cut up, resumed and shared among processes in
`llmkit/data/curation/phases.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from llmkit.data.curation.c4 import C4Quality
from llmkit.data.curation.dedup import ExactDedup
from llmkit.data.curation.filters import Step
from llmkit.data.curation.fineweb import FineWebQuality
from llmkit.data.curation.gopher import GopherQuality, GopherRepetition
from llmkit.data.curation.published import FINEWEB_REMOVED_PERCENT, FINEWEB_RULE_PERCENT
from llmkit.data.curation.removed import SAMPLES
from llmkit.data.sources.budget import Limit, budget
from llmkit.data.sources.source import Source
from llmkit.data.tokens.token_estimate import DESCRIPTION
from llmkit.errors import InputError, Problem
from llmkit.schema import Keyed, Named
from llmkit.stage import Context, Facts, Stage

if TYPE_CHECKING:
    from llmkit.data.curation.phases import Curation
    from llmkit.data.curation.run import Outcome

FINEWEB_ORDER = (
    GopherRepetition(),
    GopherQuality(),
    C4Quality(),
    FineWebQuality(),
    ExactDedup(),
)


@dataclass(frozen=True, kw_only=True)
class Curate(Stage):
    """Filters and deduplicates documents by its steps in order; by default FineWeb's."""

    makes: ClassVar[tuple[str, ...]] = ("documents",)
    libraries: ClassVar[tuple[str, ...]] = ("datasets", "pyarrow", "numpy")
    unkeyed: ClassVar[tuple[str, ...]] = ("num_proc",)

    sources: Annotated[tuple[Source, ...], Keyed("llmkit.data.sources.table:SOURCES")]
    steps: Annotated[
        tuple[Step, ...],
        Named("llmkit.data.curation.steps:STEPS", "llmkit.data.curation.steps:PRESETS"),
    ] = FINEWEB_ORDER
    limit: int | Limit | None = None  # of the input, over all sources
    max_bad_rows: int | None = None  # rows without a usable text before it is an error; any number
    block_documents: int = 10_000  # input documents in a file of documents/, and lost by a kill
    samples_per_rule: int = 10  # removed texts that are kept of each rule
    num_proc: int | None = None  # worker processes, by default one a core; changes no byte

    def problems(self, upstream: Mapping[str, Facts]) -> Iterator[Problem]:
        if not self.sources:
            yield Problem(("sources",), "there is none", "name at least one source of documents")
        least = {"max_bad_rows": 0, "block_documents": 1, "samples_per_rule": 0, "num_proc": 1}
        for key, bound in least.items():
            value = getattr(self, key)
            if value is not None and value < bound:
                yield Problem((key,), f"must be at least {bound}, not {value}")
        try:
            budget(self.limit)
        except ValueError as error:
            yield Problem(("limit",), str(error).removeprefix("limit: "))
        if len({source.weight is None for source in self.sources}) > 1:
            remedy = "give every source a weight, or none"
            yield Problem(("sources",), "some have a weight and some have none", remedy)

    def versioned(self) -> tuple[str, ...]:
        of_steps = {library for step in self.steps for library in step.libraries()}
        return (*self.libraries, *sorted(of_steps))

    def files(self) -> Iterator[Path]:
        for source in self.sources:
            yield from source.files()
        for step in self.steps:
            yield from step.files()

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        for source in self.sources:
            yield from source.hub_data()

    def run(self, context: Context) -> dict[str, Any]:
        from llmkit.data.curation.feed import Feed
        from llmkit.data.curation.phases import Curation
        from llmkit.data.curation.run import Run
        from llmkit.data.curation.workers import cores

        curation = Curation(
            out=context.out,
            scratch=context.scratch,
            sources=tuple(source.label for source in self.sources),
            steps=self.steps,
            samples=self.samples_per_rule,
            seed=context.seed,
        )
        feed = Feed(
            sources=self.sources,
            world=context.world,
            seed=context.seed,
            limit=self.limit,
            max_bad_rows=self.max_bad_rows,
            block_documents=self.block_documents,
            label=context.name,
        )
        run = Run(curation, feed, self.num_proc or cores(), context.name, self._size())
        return self._finish(context, curation, run.run())

    def _size(self) -> int | None:
        """Input documents in all, if every source knows its own number."""
        bound = budget(self.limit)
        most = None if bound is None or bound.tokens is not None else bound.documents
        sizes = [source.size for source in self.sources]
        known = sum(size for size in sizes if size is not None)
        return most if None in sizes else min(known, most or known)

    def _finish(self, context: Context, curation: Curation, outcome: Outcome) -> dict[str, Any]:
        report = stats(curation, outcome)
        path = context.out / "stats.json"
        path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        outcome.samples.write(context.out / SAMPLES, curation.names)
        if not report["in"]["documents"]:
            aside = outcome.faults["set_aside"].items()
            told = ", ".join(f"{reason}: {number}" for reason, number in aside)
            what = "hold no document" + (f" that can be read ({told})" if told else "")
            raise InputError(
                f"{context.name}.sources", what, "see that the files have text in them"
            )
        removed = {reason: n["documents"] for reason, n in outcome.funnel.removed().items()}
        reasons = ", ".join(f"{reason} {number}" for reason, number in removed.items())
        context.gate(
            "documents_kept",
            report["kept"]["documents"] > 0,
            f"{report['kept']['documents']} of {report['in']['documents']}"
            + (f" ({reasons})" if reasons else ""),
            "at least 1",
            "loosen the rule that removes most (its threshold is a key of the step), or drop it",
        )
        return figures(report, removed)


def stats(curation: Curation, outcome: Outcome) -> dict[str, Any]:
    """All of `stats.json`: the funnel, and FineWeb's published percentages beside it."""
    report = outcome.funnel.report(curation.sources, curation.names)
    for place, step in enumerate(report["steps"]):
        if (percent := FINEWEB_REMOVED_PERCENT.get(step["step"])) is not None:
            step["fineweb_removed_percent"] = percent
        if place in outcome.clusters:
            step["clusters"] = outcome.clusters[place]
    report["fineweb_rule_percent"] = FINEWEB_RULE_PERCENT
    report["tokens_are"] = DESCRIPTION
    faults = outcome.faults
    report["bad_rows"] = {"rows": faults["count"], "first": faults["named"]}
    set_aside = dict(sorted(faults["set_aside"].items()))
    passed_over = dict(sorted(faults["passed_over"].items()))
    if set_aside or passed_over:
        report["quarantine"] = {
            "set_aside": set_aside,
            "first": faults["first"],
            "passed_over": passed_over,
        }
    return report


def figures(report: dict[str, Any], removed: dict[str, int]) -> dict[str, Any]:
    """The stage's metrics: the funnel's two ends, and what went by each rule."""
    metrics: dict[str, Any] = {
        "documents_in": report["in"]["documents"],
        "documents_kept": report["kept"]["documents"],
        "characters_in": report["in"]["characters"],
        "characters_kept": report["kept"]["characters"],
        "tokens_kept_estimated": report["kept"]["tokens"],
        "bad_rows": report["bad_rows"]["rows"],
    }
    metrics |= {f"removed/{reason}": number for reason, number in removed.items()}
    if "truth" in report:
        for step, rates in {"all": report["truth"]["all"], **report["truth"]["steps"]}.items():
            if rates["removed"]:
                metrics |= {f"{step}/{rate}": rates[rate] for rate in ("precision", "recall")}
    return metrics
