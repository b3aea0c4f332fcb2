"""A curation as a whole: only what is whole counts, and a stop at any moment changes nothing."""

import json
import os
from dataclasses import dataclass

import pytest

from llmkit.data.curation import blocks as blocks_module
from llmkit.data.curation.blocks import numbered
from llmkit.data.curation.books import Split
from llmkit.data.curation.dedup import ExactDedup
from llmkit.data.curation.feed import Feed
from llmkit.data.curation.filters import Step
from llmkit.data.curation.gopher import GopherQuality
from llmkit.data.curation.minhash import MinHash
from llmkit.data.curation.phases import Curation, phases_of
from llmkit.data.curation.run import Run
from llmkit.data.documents import Document, iter_documents
from llmkit.data.sources.source import Source

QUALITY = GopherQuality(min_doc_words=3, min_stop_words=0)


@dataclass(frozen=True, kw_only=True)
class Shout(Step):
    """An editing step, so that what passed it can be told."""

    name = "shout"

    def apply(self, document):
        return Document(document.text.upper(), document.id, document.metadata)


STEPS = (QUALITY, ExactDedup(), Split(max_characters=30), MinHash(n_grams=3), Shout())
TEXTS = [
    f"word number {i % 17} of the text" if i % 5 else ("short" if i % 2 else " ") for i in range(60)
]
TEXTS[21] += "\n\nand a second paragraph of it"
INPUT = [Document(text, f"id-{i}", {"url": f"u{i}"}) for i, text in enumerate(TEXTS)]


@dataclass(frozen=True)
class ListPart:
    start: int
    stop: int
    reads: tuple = ()

    def documents(self, world, seed, bad_rows):
        for number in range(self.start, self.stop):
            if number % 13 == 12:
                bad_rows.add(f"/home/me:{number}", f"list:{number}", "is bad")
            READS.append(number)
            yield INPUT[number]


READS: list[int] = []


@dataclass(frozen=True, kw_only=True)
class ListSource(Source):
    first: int = 0
    last: int = 60
    cut: int = 9
    label = "list"

    def parts(self):
        starts = range(self.first, self.last, self.cut)
        return [ListPart(start, min(start + self.cut, self.last)) for start in starts]


def feed(size=7, sources=(ListSource(),), **settings):
    settings = {"limit": None, "max_bad_rows": 99, **settings}
    return Feed(sources=sources, world={}, seed=0, block_documents=size, label="curate", **settings)


def curate(out, size=7, steps=STEPS, num_proc=1, reading=None, **settings):
    sources = settings.get("sources", (ListSource(),))
    labels = tuple(source.label for source in sources)
    curation = Curation(out=out, scratch=out / "scratch", sources=labels, steps=steps, samples=3)
    run = Run(curation, reading or feed(size, **settings), num_proc, "curate")
    outcome = run.run()
    (out / "stats").write_text(json.dumps(outcome.funnel.report(labels, curation.names)))
    outcome.samples.write(out / "samples", curation.names)
    (out / "faults").write_text(json.dumps(outcome.faults))
    return outcome


def artefacts(out):
    files = [path for path in out.rglob("*") if path.is_file() and "scratch" not in path.parts]
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(files)}


def removed_rows(out):
    import pyarrow.parquet as pq

    return pq.read_table(out / "removed").to_pylist()


def test_phases_are_cut_at_the_steps_that_compare_all():
    phases = phases_of(STEPS)
    assert [[place for place, _ in phase.steps] for phase in phases] == [[1], [3], [5]]
    ends = [[end and end[0] for end in (phase.before, phase.after)] for phase in phases]
    assert ends == [[None, 2], [2, 4], [4, None]]
    assert [len(phases_of(steps)) for steps in ((), (QUALITY,), (ExactDedup(),))] == [1, 1, 2]
    assert numbered(["a", "b", "a"]) == ["a", "b", "a (2)"]


def test_every_document_is_kept_or_removed_with_its_reason(tmp_path):
    outcome = curate(tmp_path, steps=(QUALITY, ExactDedup(), Shout()))
    kept = [document.id for document in iter_documents(tmp_path)]
    removed = removed_rows(tmp_path)
    assert sorted([*kept, *(row["id"] for row in removed)]) == sorted(d.id for d in INPUT)
    by_reason = {reason: n["documents"] for reason, n in outcome.funnel.removed().items()}
    assert by_reason == {"exact_duplicate": 30, "gopher_short_doc": 6, "blank_text": 6}
    first = {text: document.id for text, document in reversed(list(zip(TEXTS, INPUT, strict=True)))}
    copies = [row for row in removed if row["reason"] == "exact_duplicate"]
    for row in copies:
        assert row["step"] == "exact_dedup" and row["figure"] == 1
        assert row["detail"] == first[TEXTS[int(row["id"][3:])]] and row["detail"] in kept
    short = next(row for row in removed if row["reason"] == "gopher_short_doc")
    assert (short["figure"], short["step"], short["characters"]) == (1.0, "gopher_quality", 5)
    assert all(document.text.isupper() for document in iter_documents(tmp_path))


def test_near_duplicates_name_the_first_of_their_cluster(tmp_path):
    # "number 1", "number 2", ... are one text to MinHash, whose numbers are all 0.
    outcome = curate(tmp_path)
    assert [d.id for d in iter_documents(tmp_path)] == ["id-1", "id-21#1"]
    near = [row for row in removed_rows(tmp_path) if row["reason"] == "near_duplicate"]
    assert len(near) == 17 and {row["detail"] for row in near} == {"id-1"}
    assert {row["figure"] for row in near} == {1.0}
    assert outcome.clusters[4] == {
        "documents": 19,
        "duplicates": 17,
        "clusters": 1,
        "largest": 18,
        "clusters_of": {"2": 0, "3-5": 0, "6-10": 0, "11-100": 1, "over 100": 0},
    }
    steps = outcome.funnel.report(["list"], ["read", *(step.name for step in STEPS)])["steps"]
    ends = [step["out"]["documents"] for step in steps]
    assert ends == [54, 48, 18, 19, 2, 2]


def test_samples_are_the_same_however_the_input_is_cut(tmp_path):
    for size in (7, 1000):
        curate(tmp_path / str(size), size)
    samples = [(tmp_path / size / "samples").read_text() for size in ("7", "1000")]
    assert samples[0] == samples[1]
    rows = [json.loads(line) for line in samples[0].splitlines()]
    assert [row["reason"] for row in rows] == [
        *["blank_text"] * 3,
        *["gopher_short_doc"] * 3,
        *["exact_duplicate"] * 3,
        *["near_duplicate"] * 3,
    ]
    assert all(row["kept_text"] == row["text"] for row in rows[6:9])
    assert all(row["kept_text"] == "word number 1 of the text" for row in rows[9:])


def test_block_size_changes_the_files_and_not_the_documents(tmp_path):
    for size in (7, 1000):
        curate(tmp_path / str(size), size, steps=STEPS[:2])
    assert len(list((tmp_path / "7" / "documents").iterdir())) > 1
    texts = [[d.id for d in iter_documents(tmp_path / size)] for size in ("7", "1000")]
    assert texts[0] == texts[1]


class Stop(BaseException):
    """The process ends here, as far as the files can tell."""


def test_a_stop_before_any_rename_ends_in_the_same_bytes(tmp_path, monkeypatch):
    """Only what was renamed counts, so between two renames all moments are alike."""
    curate(tmp_path / "whole", 30)
    expected = artefacts(tmp_path / "whole")
    real, moment = os.replace, 0
    while True:
        calls = iter(range(10**6))

        def replace(source, target, calls=calls, moment=moment):
            if next(calls) == moment:
                raise Stop
            real(source, target)

        out = tmp_path / f"stopped-{moment}"
        monkeypatch.setattr(os, "replace", replace)
        try:
            curate(out, 30)
            stopped = False
        except Stop:
            stopped = True
        monkeypatch.setattr(os, "replace", real)
        if not stopped:
            break
        curate(out, 30)
        assert artefacts(out) == expected
        moment += 1
    assert moment > 2 * (5 + 5 + 3)  # the files and the state of 2 blocks in 3 phases, and more


@pytest.mark.parametrize(
    "victim",
    [
        "documents/00000.parquet",
        "scratch/phase-0/00001.keys.npy",
        "scratch/phase-1/00001.json",
    ],
)
def test_a_damaged_block_is_made_again(tmp_path, victim):
    curate(tmp_path)
    expected = artefacts(tmp_path)
    file = tmp_path / victim
    file.write_bytes(file.read_bytes()[:-9])
    untouched = tmp_path / "scratch/phase-0/00000.keys.npy"
    time = untouched.stat().st_mtime_ns
    curate(tmp_path)
    assert artefacts(tmp_path) == expected
    assert untouched.stat().st_mtime_ns == time


def test_a_finished_folder_is_taken_as_it_is_and_nothing_is_read(tmp_path):
    curate(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    READS.clear()
    curate(tmp_path)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert READS == []


@pytest.mark.parametrize("blocks", [1, 2, 5, 8, 9])
@pytest.mark.parametrize("limits", [{}, {"limit": 58}, {"sources": (1,)}])
def test_reading_goes_on_in_the_part_where_it_stopped(tmp_path, blocks, limits):
    if "sources" in limits:
        sources = (ListSource(last=30, limit=20), ListSource(first=30, cut=20))
        limits = {"sources": sources}
    curate(tmp_path / "whole", **limits)
    out = tmp_path / "stopped"
    stopping = feed(**limits)
    jobs = stopping.jobs

    def some(done, behind):
        for job in jobs(done, behind):
            if job.index == blocks:
                raise Stop
            yield job

    stopping.jobs = some
    try:
        curate(out, reading=stopping, **limits)
    except Stop:
        pass
    READS.clear()
    curate(out, **limits)
    assert artefacts(out) == artefacts(tmp_path / "whole")
    assert len(READS) < 60 - 7 * blocks + 20  # the rest, and a part at most
    if not limits:
        assert READS[:1] in ([], [(7 * blocks - 1) // 9 * 9])


def test_a_hole_in_the_blocks_is_filled(tmp_path):
    """Workers commit in any order, so a kill may leave later blocks and not earlier ones."""
    curate(tmp_path)
    expected = artefacts(tmp_path)
    for name in ("phase-0/00002.json", "phase-0/read.json", "phase-2/00004.json"):
        (tmp_path / "scratch" / name).unlink()
    curate(tmp_path)
    assert artefacts(tmp_path) == expected


def test_mixed_sources_are_read_again_and_end_in_the_same_bytes(tmp_path):
    sources = (ListSource(last=30, weight=2.0), ListSource(first=30, weight=1.0))
    curate(tmp_path, sources=sources)
    expected = artefacts(tmp_path)
    for name in ("phase-0/00005.json", "phase-0/read.json"):
        (tmp_path / "scratch" / name).unlink()
    curate(tmp_path, sources=sources)
    assert artefacts(tmp_path) == expected
    assert json.loads((tmp_path / "faults").read_text())["count"] == 4


def test_long_documents_end_a_block_early(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks_module, "BLOCK_CHARACTERS", 100)
    curate(tmp_path, size=1000)
    assert len(list((tmp_path / "scratch" / "phase-0").glob("*.json"))) > 6


def test_a_block_of_which_nothing_is_kept_leaves_no_empty_file(tmp_path):
    curate(tmp_path, size=1, steps=(QUALITY,), limit=3)
    files = [name for name in artefacts(tmp_path) if "parquet" in name]
    assert files == ["documents/00001.parquet", "documents/00002.parquet", "removed/00000.parquet"]


@pytest.mark.slow
def test_any_number_of_workers_makes_the_same_bytes(tmp_path):
    for num_proc in (1, 2, 5):
        curate(tmp_path / str(num_proc), num_proc=num_proc)
    expected = artefacts(tmp_path / "1")
    assert artefacts(tmp_path / "2") == expected
    assert artefacts(tmp_path / "5") == expected
