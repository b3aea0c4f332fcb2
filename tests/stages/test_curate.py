"""The curate stage end to end: figures, faults, kill -9, and real text where it is at hand."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmkit.build import Builder
from llmkit.data.curation.books import GutenbergBoilerplate, Split
from llmkit.data.curation.dedup import ExactDedup
from llmkit.data.curation.gopher import GopherQuality
from llmkit.data.documents import iter_texts
from llmkit.data.sources.table import HubSource, PathSource, TinyworldDocuments, TinyworldSource
from llmkit.errors import GateError, InputError
from llmkit.stage import Context
from llmkit.stages.curate import Curate

REAL = Path(__file__).parents[2] / ".." / "shared" / "data"
real_text = pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data with real text here")


def run(out, *sources, **settings):
    return Curate(sources=sources, **settings).run(Context(name="curate", out=out))


def artefacts(out):
    files = [path for path in out.rglob("*") if path.is_file() and "scratch" not in path.parts]
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(files)}


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def prose(seed: int, num_words: int = 120) -> str:
    """Sentences that pass every rule, different for every seed."""
    rng = random.Random(seed)
    words = [
        "".join(rng.choices("abcdefghijklmnop", k=rng.randint(3, 8))) for _ in range(num_words)
    ]
    words[::9] = [("the", "of", "and", "with")[i % 4] for i in range(len(words[::9]))]
    return " ".join(word + ("." if i % 8 == 7 else "") for i, word in enumerate(words)) + "."


def test_sources_without_a_document_are_named(tmp_path):
    (tmp_path / "empty.txt").touch()
    empty = PathSource(path=str(tmp_path / "empty.txt"))
    what = r"curate\.sources: hold no document that can be read \(empty: 1\); see that"
    with pytest.raises(InputError, match=what):
        run(tmp_path / "out", empty)


def test_default_steps_keep_prose_and_name_every_removal(tmp_path):
    texts = [*(prose(i) for i in range(20)), prose(3), "too short", "", "a line.\n" * 60]
    source = PathSource(path=write_jsonl(tmp_path / "a.jsonl", [{"text": t} for t in texts]))
    metrics = run(tmp_path / "out", source)
    assert metrics["documents_in"] == 24 and metrics["documents_kept"] == 20
    removed = {k: v for k, v in metrics.items() if k.startswith("removed/")}
    assert removed == {
        "removed/exact_duplicate": 1,
        "removed/blank_text": 1,
        "removed/dup_line_frac": 1,
        "removed/top_2_gram": 1,
    }
    assert list(iter_texts(tmp_path / "out")) == texts[:20]
    stats = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert [s["step"] for s in stats["steps"]] == [
        "read",
        "gopher_repetition",
        "gopher_quality",
        "c4_quality",
        "fineweb_quality",
        "exact_dedup",
    ]
    assert stats["sources"] == [
        {"source": "path:a.jsonl", "in": stats["in"], "kept": stats["kept"]}
    ]


def test_a_recipe_names_steps_and_sources():
    builder = Builder()
    mapping = {
        "sources": [{"path": "x"}],
        "steps": ["exact_dedup", {"gopher_quality": {"min_doc_words": 5}}],
        "limit": 0,
    }
    stage = builder.build(Curate, mapping, ("curate",))
    assert stage.steps == (ExactDedup(), GopherQuality(min_doc_words=5))
    assert [str(p) for p in stage.problems({})] == ["limit: 0 is not positive"]
    builder.build(Curate, {"sources": [{"path": "x"}], "steps": ["gopher_qualty"]}, ("curate",))
    assert "did you mean gopher_quality" in str(builder.problems[0])


def test_tinyworld_is_scored_against_its_truth(tmp_path):
    source = TinyworldSource(tinyworld=TinyworldDocuments(num_documents=600))
    metrics = run(tmp_path, source, steps=(ExactDedup(),))
    truth = json.loads((tmp_path / "stats.json").read_text())["truth"]
    # Exact copies are the one sort of junk that deduplication alone finds, and all it finds.
    copies = truth["kinds"]["exact_duplicate"]
    assert copies["documents"] == copies["removed"] > 5
    assert metrics["all/precision"] == 1.0
    junk = sum(n["documents"] for kind, n in truth["kinds"].items() if kind != "good")
    assert metrics["all/recall"] == copies["removed"] / junk
    assert metrics["exact_dedup/recall"] == metrics["all/recall"]


def test_limit_counts_input_documents_over_all_sources(tmp_path):
    rows = [{"text": prose(i)} for i in range(8)]
    sources = [
        PathSource(path=write_jsonl(tmp_path / f"{n}.jsonl", rows[4 * n : 4 * n + 4]))
        for n in range(2)
    ]
    assert run(tmp_path / "out", *sources, limit=6)["documents_kept"] == 6
    stats = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert [s["in"]["documents"] for s in stats["sources"]] == [4, 2]


def test_bad_rows_stop_or_are_counted_and_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": prose(1)}) + "\n{bad\n")
    with pytest.raises(InputError, match=r"a\.jsonl:2: not JSON.*max_bad_rows"):
        run(tmp_path / "one", PathSource(path=str(path)), max_bad_rows=0)
    metrics = run(tmp_path / "two", PathSource(path=str(path)))
    assert metrics["bad_rows"] == 1 and metrics["documents_kept"] == 1
    stats = (tmp_path / "two" / "stats.json").read_text()
    assert json.loads(stats)["bad_rows"]["first"][0].startswith("a.jsonl:2: not JSON")
    assert str(tmp_path) not in stats


def test_an_empty_source_is_one_clear_error(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(InputError, match=r"path:a\.jsonl: holds no documents"):
        run(tmp_path / "out", PathSource(path=str(tmp_path / "a.jsonl")))


def test_nothing_kept_is_an_error_that_counts_the_reasons(tmp_path):
    source = PathSource(path=write_jsonl(tmp_path / "a.jsonl", [{"text": "word " * 9}] * 3))
    with pytest.raises(GateError, match=r"0 of 3 \(top_2_gram 3\).*loosen the rule"):
        run(tmp_path / "out", source)


SCRIPT = """
import sys
from pathlib import Path
from llmkit.data.sources.table import PathSource
from llmkit.stage import Context
from llmkit.stages.curate import FINEWEB_ORDER, Curate
from llmkit.data.curation.minhash import MinHash
from llmkit.data.curation.books import Split
path, out, num_proc = sys.argv[1:]
steps = (*FINEWEB_ORDER, Split(max_characters=2000), MinHash())
stage = Curate(
    sources=(PathSource(path=path),), steps=steps, block_documents=25, num_proc=int(num_proc)
)
stage.run(Context(name="curate", out=Path(out)))
"""


def started(path, out, num_proc):
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(path), str(out), str(num_proc)])


def family(pid: int) -> list[int]:
    """A process's descendants; empty when it is gone."""
    try:
        texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    children = [int(child) for text in texts for child in text.split()]
    return [*children, *(one for child in children for one in family(child))]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def kill_at_each(states, path, out, num_proc):
    """Kill the process, and again its successor, as soon as the next one of `states` is there."""
    for state in states:
        process = started(path, out, num_proc)
        reached = out / "scratch" / state
        wait_until(lambda reached=reached, one=process: reached.exists() or one.poll() is not None)
        workers = family(process.pid)
        process.kill()
        process.wait()
        wait_until(lambda workers=workers: not any(map(alive, workers)))
        assert reached.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("num_proc", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_kill_dash_nine_and_again_gives_the_same_bytes(tmp_path, num_proc):
    rows = [{"text": prose(i % 190, 200), "id": f"d{i}"} for i in range(200)]
    rows[120]["text"] = rows[7]["text"] + " And a sentence more."
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    assert started(path, tmp_path / "whole", 1).wait() == 0
    out = tmp_path / "killed"
    kill_at_each(("phase-0/00001.json", "phase-0/00004.json"), path, out, num_proc)
    kill_at_each(("phase-1/00002.json", "phase-2/00003.json"), path, out, num_proc)
    assert started(path, out, num_proc).wait() == 0
    assert artefacts(out) == artefacts(tmp_path / "whole")
    stats = json.loads((out / "stats.json").read_text())
    removed = {step["step"]: step["removed"] for step in stats["steps"] if step["removed"]}
    assert removed["exact_dedup"]["exact_duplicate"]["documents"] == 10
    assert removed["minhash"]["near_duplicate"]["documents"] >= 1


@real_text
def test_real_web_pages(tmp_path):
    metrics = run(tmp_path, PathSource(path=str(REAL / "c4_llamafactory")))
    assert metrics["documents_in"] == 300 + 1  # its SOURCE.txt is a text file too
    assert 180 < metrics["documents_kept"] < 250
    assert metrics["removed/gopher_short_doc"] > 10


@real_text
def test_real_books_lose_their_licence_and_nothing_else(tmp_path):
    source = PathSource(path=str(REAL / "gutenberg" / "*-0.txt"))
    metrics = run(tmp_path, source, steps=(GutenbergBoilerplate(), Split(), ExactDedup()))
    texts = list(iter_texts(tmp_path))
    assert metrics["documents_in"] == 8 and metrics["documents_kept"] == len(texts) > 1000
    assert not any("Project Gutenberg License" in text for text in texts)
    assert sum("Call me Ishmael." in text for text in texts) == 1
    assert 0.95 < metrics["characters_kept"] / metrics["characters_in"] < 0.99


def test_hub_sources_enter_the_key():
    sources = (
        HubSource(hub="org/a", revision="v1"),
        PathSource(path="x"),
        HubSource(hub="org/b"),
    )
    assert list(Curate(sources=sources).hub_data()) == [("org/a", "v1"), ("org/b", None)]
