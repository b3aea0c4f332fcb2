"""Blocks: only what is whole counts, and a stop at any moment changes nothing."""

import os

import pytest

from llmkit.data import blocks as blocks_module
from llmkit.data.blocks import Blocks
from llmkit.data.books import Split
from llmkit.data.dedup import ExactDedup
from llmkit.data.documents import Document, iter_documents
from llmkit.data.gopher import GopherQuality

STEPS = (GopherQuality(min_doc_words=3, min_stop_words=0), ExactDedup())
TEXTS = [
    f"word number {i % 17} of the text" if i % 5 else ("short" if i % 2 else " ") for i in range(60)
]
INPUT = [Document(text, f"id-{i}") for i, text in enumerate(TEXTS)]


class Stop(BaseException):
    """The process ends here, as far as the files can tell."""


def curate(out, size=7, steps=STEPS):
    blocks = Blocks(out, out / "scratch", ["list"], steps, size)
    blocks.resume()
    for document in INPUT[blocks.consumed :]:
        blocks.feed(document, 0)
    blocks.commit()
    return blocks


def artefacts(out):
    files = sorted(path for path in out.rglob("*.parquet"))
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def test_every_document_is_kept_or_removed_with_its_reason(tmp_path):
    import pyarrow.parquet as pq

    blocks = curate(tmp_path)
    kept = [document.id for document in iter_documents(tmp_path)]
    removed = pq.read_table(tmp_path / "removed").to_pylist()
    assert sorted([*kept, *(row["id"] for row in removed)]) == sorted(d.id for d in INPUT)
    by_reason = {reason: n["documents"] for reason, n in blocks.funnel.removed().items()}
    assert by_reason == {"exact_duplicate": 31, "gopher_short_doc": 6, "blank_text": 6}
    copy = next(row for row in removed if row["reason"] == "exact_duplicate")
    assert copy["step"] == "exact_dedup" and copy["detail"] in kept
    short = next(row for row in removed if row["reason"] == "gopher_short_doc")
    assert (short["figure"], short["step"], short["characters"]) == (1.0, "gopher_quality", 5)


def test_block_size_changes_the_files_and_not_the_documents(tmp_path):
    for size in (7, 1000):
        curate(tmp_path / str(size), size)
    assert len(list((tmp_path / "7" / "documents").iterdir())) > 1
    texts = [[d.id for d in iter_documents(tmp_path / size)] for size in ("7", "1000")]
    assert texts[0] == texts[1]


def test_a_stop_before_or_after_any_rename_ends_in_the_same_bytes(tmp_path, monkeypatch):
    whole = curate(tmp_path / "whole")
    expected, rows = artefacts(tmp_path / "whole"), whole.funnel.to_rows()
    real, moment = os.replace, 0
    while True:
        calls = iter(range(10**6))

        def replace(source, target, calls=calls, moment=moment):
            at = next(calls)
            if 2 * at == moment:
                raise Stop
            real(source, target)
            if 2 * at + 1 == moment:
                raise Stop

        out = tmp_path / f"stopped-{moment}"
        monkeypatch.setattr(os, "replace", replace)
        try:
            curate(out)
            stopped = False
        except Stop:
            stopped = True
        monkeypatch.setattr(os, "replace", real)
        if not stopped:
            break
        again = curate(out)
        assert artefacts(out) == expected
        assert sorted(again.funnel.to_rows()) == sorted(rows)
        assert again.memories == whole.memories
        moment += 1
    assert whole.index == 9  # and every file and state of them was stopped before and after
    assert moment == 2 * (len(expected) + whole.index)


@pytest.mark.parametrize("kind", ["documents", "removed"])
def test_a_damaged_block_is_made_again_and_all_after_it(tmp_path, kind):
    curate(tmp_path)
    expected = artefacts(tmp_path)
    victim = tmp_path / kind / "00001.parquet"
    victim.write_bytes(victim.read_bytes()[:-9])
    blocks = Blocks(tmp_path, tmp_path / "scratch", ["list"], STEPS, 7)
    blocks.resume()
    assert (blocks.index, blocks.consumed) == (1, 7)
    assert sorted(artefacts(tmp_path)) == sorted(
        name for name in expected if name.endswith("00000.parquet")
    )
    curate(tmp_path)
    assert artefacts(tmp_path) == expected


def test_a_finished_folder_is_taken_as_it_is(tmp_path):
    curate(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert curate(tmp_path).consumed == len(INPUT)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}


def test_long_documents_end_a_block_early(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks_module, "BLOCK_CHARACTERS", 100)
    assert curate(tmp_path, size=1000).index > 5


def test_a_block_of_which_nothing_is_kept_leaves_no_empty_file(tmp_path):
    blocks = Blocks(tmp_path, tmp_path / "scratch", ["list"], STEPS, 2)
    for text in ("short", " ", "these are many words", "and many words again"):
        blocks.feed(Document(text, text), 0)
    assert sorted(artefacts(tmp_path)) == ["documents/00001.parquet", "removed/00000.parquet"]
    again = Blocks(tmp_path, tmp_path / "scratch", ["list"], STEPS, 2)
    again.resume()
    assert again.consumed == 4


def test_pieces_of_a_split_go_on_one_by_one(tmp_path):
    steps = (Split(max_characters=12), *STEPS)
    assert blocks_module.numbered(["a", "b", "a"]) == ["a", "b", "a (2)"]
    blocks = Blocks(tmp_path, tmp_path / "scratch", ["list"], steps, 10)
    blocks.feed(Document("a b c d\n\nshort\n\nlong paragraph number three\n\na b c d", "book"), 0)
    blocks.commit()
    assert [d.id for d in iter_documents(tmp_path)] == ["book#2"]
    report = blocks.funnel.report(["list"], blocks.names)
    assert [step["out"]["documents"] for step in report["steps"]] == [1, 4, 1, 1]
