"""The `curate` stage: raw documents in, good ones out, and a reason for every one removed.

Writes `documents/NNNNN.parquet` in FineWeb's columns, `removed/NNNNN.parquet` (each removed
document's reason and figure, its text capped) and `stats.json` (the funnel). The rules and where
they are published stand in the modules that `llmkit/data/steps.py` names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar

from llmkit.data.blocks import Blocks
from llmkit.data.c4 import C4Quality
from llmkit.data.dedup import ExactDedup
from llmkit.data.documents import Document
from llmkit.data.filters import Step
from llmkit.data.fineweb import FineWebQuality
from llmkit.data.gopher import GopherQuality, GopherRepetition
from llmkit.data.readers import BadRows
from llmkit.data.sources import Source
from llmkit.errors import InputError, Problem
from llmkit.progress import Progress, track
from llmkit.schema import Keyed, Named
from llmkit.stage import Context, Facts, Stage

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
    libraries: ClassVar[tuple[str, ...]] = ("datasets", "pyarrow")

    sources: Annotated[tuple[Source, ...], Keyed("llmkit.data.sources:SOURCES")]
    steps: Annotated[
        tuple[Step, ...], Named("llmkit.data.steps:STEPS", "llmkit.data.steps:PRESETS")
    ] = FINEWEB_ORDER
    limit: int | None = None  # input documents at most, over all sources
    max_bad_rows: int = 0  # rows without a usable text that are left out before it is an error
    block_documents: int = 10_000  # input documents in a file of documents/, and lost by a kill

    def problems(self, upstream: Mapping[str, Facts]) -> Iterator[Problem]:
        if not self.sources:
            yield Problem(("sources",), "there is none", "name at least one source of documents")
        for key, least in (("limit", 1), ("max_bad_rows", 0), ("block_documents", 1)):
            value = getattr(self, key)
            if value is not None and value < least:
                yield Problem((key,), f"must be at least {least}, not {value}")

    def files(self) -> Iterator[Path]:
        for source in self.sources:
            yield from source.files()
        for step in self.steps:
            yield from step.files()

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        for source in self.sources:
            yield from source.hub_data()

    def run(self, context: Context) -> dict[str, Any]:
        bad_rows = BadRows(self.max_bad_rows)
        labels = [source.label for source in self.sources]
        blocks = Blocks(context.out, context.scratch, labels, self.steps, self.block_documents)
        blocks.resume()
        done = blocks.consumed
        documents = islice(self._documents(context, bad_rows), self.limit)
        label = f"{context.name}, up to where it was"
        for _ in track(islice(documents, done), label, done, "documents"):
            pass  # read again, so that bad rows are counted again; the steps do not see them
        with Progress(context.name, self._size(), "documents") as progress:
            progress.start_at(done)
            for source, document in documents:
                blocks.feed(document, source)
                progress.update()
        blocks.commit()
        return self._finish(context, blocks, bad_rows)

    def _documents(self, context: Context, bad_rows: BadRows) -> Iterator[tuple[int, Document]]:
        for place, source in enumerate(self.sources):
            empty = True
            for document in source.documents(context.world, context.seed, bad_rows):
                empty = False
                yield place, document
            if empty:
                raise InputError(
                    source.label,
                    f"holds no documents ({bad_rows.count} bad rows)"
                    if bad_rows.count
                    else "holds no documents",
                    "check the source, or leave it out",
                )

    def _size(self) -> int | None:
        """Input documents in all, if every source knows its own number."""
        sizes = [source.size for source in self.sources]
        known = sum(size for size in sizes if size is not None)
        return self.limit if None in sizes else min(known, self.limit or known)

    def _finish(self, context: Context, blocks: Blocks, bad_rows: BadRows) -> dict[str, Any]:
        report = blocks.funnel.report(blocks.sources, blocks.names)
        report["bad_rows"] = {"rows": bad_rows.count, "first": bad_rows.named}
        path = context.out / "stats.json"
        path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        removed = {reason: n["documents"] for reason, n in blocks.funnel.removed().items()}
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


def figures(report: dict[str, Any], removed: dict[str, int]) -> dict[str, Any]:
    """The stage's metrics: the funnel's two ends, and what went by each rule."""
    metrics: dict[str, Any] = {
        "documents_in": report["in"]["documents"],
        "documents_kept": report["kept"]["documents"],
        "characters_in": report["in"]["characters"],
        "characters_kept": report["kept"]["characters"],
        "bad_rows": report["bad_rows"]["rows"],
    }
    metrics |= {f"removed/{reason}": number for reason, number in removed.items()}
    if "truth" in report:
        for step, rates in {"all": report["truth"]["all"], **report["truth"]["steps"]}.items():
            if rates["removed"]:
                metrics |= {f"{step}/{rate}": rates[rate] for rate in ("precision", "recall")}
    return metrics
