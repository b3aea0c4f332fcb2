"""report.html: everything of the run is on it, nothing is fetched, nothing foreign is markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmkit.errors import InputError
from llmkit.report.page import write_report

EVIL = "<script>alert('x')</script><img src=//evil.example/a.png>"


class Page(HTMLParser):
    """Tags, attributes and text of a page; every opened tag must be closed."""

    VOID = ("meta", "br", "link", "img", "line", "circle", "polyline")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        assert self.open == [], "not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _stage(run: Path, name: str, **record: Any) -> Path:
    folder = run / name
    (folder / "logs").mkdir(parents=True)
    whole = {"stage": name, "kind": name, "seconds": 2.0, "parents": [], "metrics": {}, **record}
    (folder / "stage.json").write_text(json.dumps(whole))
    return folder


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _count(documents: int) -> dict[str, int]:
    return {"documents": documents, "characters": 10 * documents}


def _curate(run: Path) -> None:
    folder = _stage(run, "curate", metrics={"documents_kept": 70_123})
    step = {"step": "gopher_quality", "in": _count(100), "out": _count(70), "edited": 0}
    step["removed"] = {"too_short": _count(29), EVIL: _count(1)}
    truth = {"removed": 30, "junk": 32, "precision": 0.9375, "recall": 0.875}
    stats = {"in": _count(100), "kept": _count(70), "steps": [step]}
    stats["truth"] = {"all": truth, "steps": {"gopher_quality": truth}}
    (folder / "stats.json").write_text(json.dumps(stats))
    (folder / "removed").mkdir()
    texts = ["stub one", EVIL + "x" * 5000, "stub three", "stub four"]
    table = pa.table({"id": list("abcd"), "text": texts, "reason": ["too_short"] * 4})
    pq.write_table(table, folder / "removed" / "00000.parquet")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "small"
    _curate(run)
    pretrain = _stage(
        run,
        "pretrain",
        parents=["curate"],
        seconds=68.0,
        gates=[
            {"gate": "first_loss", "passed": False, "measured": 9.25, "bound": "near 7.62"},
            {"gate": "stops", "passed": None, "measured": "no chat fits", "bound": "half"},
        ],
        hardware={"processor": "Some CPU", "cores": 2, "memory_gb": 4.1},
    )
    rows = [{"step": i, "loss": 7.0 / i, "grad_norm": float("nan")} for i in range(1, 40)]
    _lines(pretrain / "logs" / "train.jsonl", [*rows, {"step": 39, "eval_loss": 0.1234567}])
    with (pretrain / "logs" / "train.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')  # killed while writing
    evaluate = _stage(run, "evaluate", parents=["pretrain"], kind="evaluate")
    cell = {"value": 0.912, "low": 0.884, "high": 0.935, "n": 1200}
    metrics = {"pretrain": {"cloze/right": cell}, "sft": {"facts/right": {**cell, "value": 0.5}}}
    (evaluate / "metrics.json").write_text(json.dumps(metrics))
    asked = {"task": "facts", "prompt": [{"role": "user", "content": "Who is Ada?"}], "answer": "A"}
    said = [{**asked, "model": "pretrain", "completion": EVIL}]
    said += [{**asked, "model": "sft", "completion": "a baker"}]
    _lines(evaluate / "samples.jsonl", said)
    record = {"recipe": "small", "stages": {}, "seed": 7, "resolved": {"stages": {}}}
    record["stages"] = {name: name for name in ("curate", "pretrain", "evaluate")}
    (run / "run.json").write_text(json.dumps(record))
    return run


def test_everything_of_the_run_is_on_the_page(run: Path) -> None:
    path = write_report(run)
    assert path == run / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    text = " ".join(page.text.split())
    for expected in (
        "3 stages, 1 min 12 s · Some CPU, 2 cores, 4.1 GB · seed 7",
        "documents_kept 70,123",
        "too_short 29",
        "stub three",
        "0.9375",
        "eval_loss 0.1235",
        "1 of 2 not passed",
        "stopsnot measuredno chat fits",
        "near 7.62",
        "0.912 [0.884, 0.935] n=1,200",
        "user: Who is Ada?",
        "a baker",
        "llmkit run small --only pretrain --force",
    ):
        assert expected in text, expected
    assert "stub four" not in text, "more samples than asked for"
    assert text.index("curate") < text.index("pretrain") < text.index("evaluate")


def test_the_page_is_self_contained_and_foreign_text_is_no_markup(run: Path) -> None:
    html = write_report(run).read_text(encoding="utf-8")
    page = Page(html)
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert EVIL in page.text
    for name, value in page.attributes:
        assert name not in ("src", "srcset", "onload", "onclick")
        assert name != "href" or (value or "").startswith("#")
    assert "url(" not in html and "@import" not in html
    assert len(html) < 60_000, "a long sample was not cut"


def test_the_curve_holds_the_logged_points(run: Path) -> None:
    page = Page(write_report(run).read_text(encoding="utf-8"))
    lines = [value for name, value in page.attributes if name == "points"]
    assert len(lines) == 1, "loss alone: gradient norms were not finite"
    assert len((lines[0] or "").split()) == 39
    assert page.tags.count("circle") == 1  # eval_loss has one point


def test_missing_parts_are_absent(tmp_path: Path) -> None:
    _stage(tmp_path / "bare", "tokenizer", seconds=None)
    text = Page(write_report(tmp_path / "bare").read_text(encoding="utf-8")).text
    assert "tokenizer" in text and "1 stage, 0.0 s" in text
    for absent in ("Funnel", "Side by side", "intervals", "gates passed", "Removed"):
        assert absent not in text


def test_without_run_json_stages_come_after_what_they_were_made_from(tmp_path: Path) -> None:
    for name, parents in (("a", ["c"]), ("b", []), ("c", ["b"])):
        _stage(tmp_path / "run", name, parents=parents)
    text = Page(write_report(tmp_path / "run").read_text(encoding="utf-8")).text
    assert [text.index(f"--only {name} ") for name in "bca"] == sorted(
        text.index(f"--only {name} ") for name in "bca"
    )


def test_the_page_may_be_written_again_and_lists_no_unfinished_stage(run: Path) -> None:
    first = write_report(run).read_text(encoding="utf-8")
    (run / ".sft.partial").mkdir()
    (run / ".sft.partial" / "stage.json").write_text("{}")
    assert write_report(run).read_text(encoding="utf-8") == first


def test_a_folder_without_stages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no finished stage"):
        write_report(tmp_path)
