"""report.html: everything of the run is on it, nothing is fetched, nothing foreign is markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import upper_run

from llmkit.errors import InputError
from llmkit.report.page import write_report
from llmkit.report.sections import recipe_text

EVIL = "<script>alert('x')</script><img src=//evil.example/a.png>"


class Page(HTMLParser):
    """Tags, attributes and text of a page; every opened tag must be closed."""

    VOID = ("meta", "br", "link", "img", "line", "circle", "polyline", "rect", "path")

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
    return {"documents": documents, "characters": 10 * documents, "tokens": 2 * documents}


def _curate(run: Path) -> None:
    folder = _stage(run, "curate", metrics={"documents_kept": 70_123})
    step = {"step": "gopher_quality", "in": _count(100), "out": _count(70), "edited": 0}
    step["removed"] = {"too_short": _count(29), EVIL: _count(1)}
    step |= {"fineweb_removed_percent": 44.4, "clusters": {"clusters": 12, "largest": 7}}
    truth = {"removed": 30, "junk": 32, "precision": 0.9375, "recall": 0.875}
    stats = {"in": _count(100), "kept": _count(70), "steps": [step]}
    stats["fineweb_rule_percent"] = {"too_short": 12.47}
    stats["truth"] = {"all": truth, "steps": {"gopher_quality": truth}}
    (folder / "stats.json").write_text(json.dumps(stats))
    texts = ["stub one", EVIL + "x" * 5000, "stub three", "stub four"]
    why = {"reason": "too_short", "figure": 0.25, "detail": "doc-7", "kept_text": EVIL}
    rows = [{"id": name, "text": text, **why} for name, text in zip("abcd", texts, strict=True)]
    _lines(folder / "removed_samples.jsonl", rows)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "small"
    _curate(run)
    pretrain = _stage(
        run,
        "pretrain",
        parents=["curate"],
        seconds=68.0,
        tokens=819_200,
        metrics={"train_loss": 1.5, EVIL: EVIL},
        gates=[
            {"gate": "first_loss", "passed": False, "measured": 9.25, "bound": "near 7.62"},
            {"gate": EVIL, "passed": None, "measured": "no chat fits", "bound": EVIL},
        ],
        hardware={"processor": "Some CPU", "cores": 2, "memory_gb": 4.1},
        parts={"stage": {"model": EVIL}},
    )
    rows = [{"step": i, "loss": 7.0 / i, "grad_norm": float("nan")} for i in range(1, 40)]
    rows += [{"step": 39, "eval_loss": 0.1234567, f"rewards/{EVIL}/mean": 1.0}]
    _lines(pretrain / "logs" / "train.jsonl", rows)
    with (pretrain / "logs" / "train.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')  # killed while writing
    rollout = {"step": 7, "prompt": EVIL, "completion": EVIL, "reward": 0.25}
    _lines(pretrain / "logs" / "completions.jsonl", [rollout])
    evaluate = _stage(run, "evaluate", parents=["pretrain"], kind="evaluate")
    cell = {"value": 0.912, "low": 0.884, "high": 0.935, "n": 1200}
    metrics = {
        EVIL: {"facts/right": cell},
        "sft": {"facts/right": {**cell, "value": 0.5}},
        "pretrain": {"cloze/right": cell, "bits/bits_per_byte": {**cell, "value": 0.9}},
    }
    (evaluate / "metrics.json").write_text(json.dumps(metrics))
    asked = {"task": "facts", "prompt": [{"role": "user", "content": "Who is Ada?"}], "answer": "A"}
    said = [{**asked, "model": "pretrain", "completion": EVIL, "scores": {"right": 0.0}}]
    said += [{**asked, "model": "sft", "completion": "a\u2028baker", "scores": {"right": 1.0}}]
    (evaluate / "samples.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in said)
    )
    record = {"recipe": EVIL, "stages": {}, "seed": 7, "resolved": {"name": EVIL}}
    record["stages"] = {name: name for name in ("curate", "pretrain", "evaluate")}
    (run / "run.json").write_text(json.dumps(record))
    return run


def read(folder: Path, **commands: str) -> Page:
    return Page(write_report(folder, commands).read_text(encoding="utf-8"))


def test_everything_of_the_run_is_on_the_page(run: Path) -> None:
    path = write_report(run, {"run": "llmkit run small", "chat": "llmkit chat small"})
    assert path == run / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    text = " ".join(page.text.split())
    for expected in (
        "3 stages, 1 min 12 s · Some CPU, 2 cores, 4.1 GB · seed 7",
        "documents_kept70,123",
        "30.0 %44.4 %too_short 29 (29.0 %; FineWeb 12.47 %)",
        "12 clusters, the largest of 7",
        "a · measured 0.25 · the kept one is doc-7",
        "too_short (29)",
        "stub three",
        "0.9375",
        "819,200",
        "eval_loss 0.1235",
        "1 of 2 not passed",
        "not measuredno chat fits",
        "near 7.62",
        ".912 [.884, .935] n=1,200",
        "Who is Ada?",
        "✗ right",
        "a baker ✓ right",
        "step 7 · reward 0.25",
        "llmkit chat small",
        "llmkit run small --only pretrain --force",
    ):
        assert expected in text, expected
    assert "stub four" not in text, "more samples than asked for"
    assert text.index("curate") < text.index("pretrain") < text.index("evaluate")


def test_models_stand_in_the_order_of_the_stages(run: Path) -> None:
    html = write_report(run).read_text(encoding="utf-8")
    table = html[html.index('<table class="results">') :]
    head, body = table[: table.index("<tbody>")], table[table.index("<tbody>") :]
    assert re.findall(r"colspan=\"(\d)\">(\w+)<", head) == [
        ("1", "cloze"),
        ("1", "bits"),
        ("1", "facts"),
    ]
    rows = re.findall(r'<th scope="row">(.*?)</th>', body[: body.index("</tbody>")])
    assert rows[0] == "pretrain" and rows[2] == "sft"
    # Shares have a bar whose end is the value; bits per byte are no share.
    assert body[: body.index("</tr>")].count('class="meter"') == 1
    assert "width:91.2%" in body and "left:88.4%;width:5.1%" in body


def test_more_columns_than_fit_follow_in_a_table_of_their_own(run: Path) -> None:
    """At most six columns each; nothing is lost, and no question type is cut that would fit."""
    tasks = {"cloze": 1, "facts": 3, "unknown": 2, "sums": 3, "long": 8}  # figures of each
    keys = [f"{task}/m{number}" for task, count in tasks.items() for number in range(count)]
    chance = {"low": 0.1, "high": 0.2}
    every = {key: {"value": 0.1 + place / 1000, **chance} for place, key in enumerate(keys)}
    metrics = {"pretrain": {"cloze/m0": every["cloze/m0"]}, "sft": every}
    (run / "evaluate" / "metrics.json").write_text(json.dumps(metrics))
    html = write_report(run).read_text(encoding="utf-8")
    tables = re.findall(r'<table class="results">(.*?)</table>', html, re.S)
    groups = [re.findall(r'colspan="(\d+)">(\w+)<', table) for table in tables]
    assert groups == [
        [("1", "cloze"), ("3", "facts"), ("2", "unknown")],
        [("3", "sums")],
        [("6", "long")],
        [("2", "long")],
    ]
    rows = [re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', table, re.S) for table in tables]
    models = [[name for name, _ in of_one] for of_one in rows]
    assert models == [["pretrain", "sft"], ["sft"], ["sft"], ["sft"]]
    shown = [value for of_one in rows for value in re.findall(r"<b>(.*?)</b>", of_one[-1][1])]
    assert sorted(shown) == [f".{100 + place}" for place in range(len(keys))]
    captions = [re.findall("<caption>(.*?)</caption>", table)[0] for table in tables]
    first = "evaluate: models by question types"
    assert captions == [first] + [f"{first}, continued"] * 3
    page = Page(html)
    assert page.tags.count("table") == page.tags.count("caption")


def test_the_page_is_self_contained_and_foreign_text_is_no_markup(run: Path) -> None:
    html = write_report(run, {"run": EVIL}).read_text(encoding="utf-8")
    page = Page(html)
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    # removed text and its reason, stage figures, gates, log, rollouts, table, samples, commands
    assert page.text.count(EVIL) >= 12
    for name, value in page.attributes:
        assert name not in ("src", "srcset", "onload", "onclick", "onerror")
        assert name != "href" or (value or "").startswith("#")
    assert "url(" not in html and "@import" not in html
    assert len(html) < 80_000, "a long sample was not cut"


def test_the_page_can_be_read_without_seeing_it(run: Path) -> None:
    html = write_report(run).read_text(encoding="utf-8")
    page = Page(html)
    drawings, tables = page.tags.count("svg"), page.tags.count("table")
    assert drawings == page.attributes.count(("role", "img")) == html.count('role="img"><title>')
    assert drawings == 3 and tables == page.tags.count("caption") == 5
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False)), "a level is skipped"
    anchors = {value for name, value in page.attributes if name == "id"}
    links = [str(value)[1:] for name, value in page.attributes if name == "href"]
    assert links and set(links) <= anchors


def test_the_curve_holds_the_logged_points(run: Path) -> None:
    page = read(run)
    lines = [value for name, value in page.attributes if name == "points"]
    assert len(lines) == 1, "loss alone: gradient norms were not finite"
    assert len((lines[0] or "").split()) == 39
    assert page.tags.count("circle") == 2  # eval_loss and a reward have one point each


def test_the_upper_rungs(tmp_path: Path) -> None:
    page = read(upper_run.write_run(tmp_path / "upper"), run="llmkit run upper")
    text = " ".join(page.text.split())
    for expected in (
        "preferred answers told, of held-out pairs",
        ".934 [.910, .952]",
        "length alone",
        "length_ruleshorter wins",
        "objective/kl 2.978",
        "value model's explained variance",
        "step 40 · reward 1 · rewards/reward 0.5 · rewards/tinyworld_answers 0.5",
        "answer 3 of step 21",
        "7 + 7 = 14, 1 + 5 + 1 = 7, so 74. ✓ accuracy",
    ):
        assert expected in text, expected
    assert "accuracy_by_kind" not in text, "the table of pairs holds it already"
    assert text.index("sft.870") < text.index("dpo.870") < text.index("ppo.870")


def test_the_recipe_on_the_page_is_the_one_that_ran() -> None:
    """Read back, numbers and words stay what they were: YAML 1.2, as recipes are."""
    from ruamel.yaml import YAML

    resolved = {"name": "x", "stages": {"sft": {"args": {"learning_rate": 1e-05, "no": "no"}}}}
    text = recipe_text(resolved)
    assert YAML(typ="safe").load(text) == resolved
    assert recipe_text({}) == ""


def test_missing_parts_are_absent(tmp_path: Path) -> None:
    _stage(tmp_path / "bare", "tokenizer", seconds=None)
    text = Page(write_report(tmp_path / "bare").read_text(encoding="utf-8")).text
    assert "tokenizer" in text and "1 stage, 0.0 s" in text
    for absent in ("documents into", "The same prompts", "interval", "Commands", "Removed"):
        assert absent not in text


def test_money_and_samples_of_a_pretraining_are_shown(tmp_path: Path) -> None:
    folder = _stage(tmp_path / "priced", "base", cost=1234.5)
    _lines(
        folder / "logs" / "samples.jsonl", [{"step": 7, "prompt": "a cat", "completion": " sat"}]
    )
    _stage(tmp_path / "free", "base")
    priced = Page(write_report(tmp_path / "priced").read_text(encoding="utf-8")).text
    assert "$1,234.50" in priced and "cost" in priced and "a cat" in priced and " sat" in priced
    free = Page(write_report(tmp_path / "free").read_text(encoding="utf-8")).text
    assert "$" not in free


def test_without_run_json_stages_come_after_what_they_were_made_from(tmp_path: Path) -> None:
    for name, parents in (("a", ["c"]), ("b", []), ("c", ["b"])):
        _stage(tmp_path / "run", name, parents=parents)
    text = read(tmp_path / "run", run="llmkit run run").text
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
