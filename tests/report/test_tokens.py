"""The tokenizer's part of the page: every token in its place, and the best figure marked."""

import json

from llmkit.report.page import write_report
from llmkit.report.tokens import coloured, tokenizer_section

ROW = {
    "domain": "news",
    "bytes": 100,
    "words": 20,
    "bytes_per_token": {"own": 4.0, "gpt2": 4.5},
    "tokens_per_word": {"own": 1.25, "gpt2": 1.1111},
}
TOKENS = [["One", 5], [" <b>", 6], ["\n", 7], ["\\xe6", 8], ["x", 9]]


def test_neighbours_have_different_colours_and_line_ends_are_seen():
    shown = coloured(TOKENS)
    assert [token["text"] for token in shown] == ["One", " <b>", "⏎\n", "\\xe6", "x"]
    assert [token["colour"] for token in shown] == [0, 1, 2, 3, 0]
    assert len(coloured([["word ", 1]] * 1000)) == 120  # 600 characters


def test_the_best_is_marked_only_where_there_are_others():
    cells = tokenizer_section({"domains": [ROW]})["rows"][0]["cells"]
    assert [(cell["value"], cell["best"]) for cell in cells] == [("4.00", False), ("4.50", True)]
    alone = {**ROW, "bytes_per_token": {"own": 4.0}, "tokens_per_word": {"own": 1.25}}
    assert not tokenizer_section({"domains": [alone]})["rows"][0]["cells"][0]["best"]
    assert tokenizer_section({})["rows"] == tokenizer_section({})["pictures"] == []


def test_it_is_on_the_page_as_text(tmp_path):
    folder = tmp_path / "tokenizer"
    (folder / "logs").mkdir(parents=True)
    metrics = {
        "bytes_per_token": 4.0,
        "bytes_per_token/news": 4.0,
        "bytes_per_token/news/gpt2": 4.5,
    }
    record = {"stage": "tokenizer", "kind": "tokenizer", "seconds": 1.0, "metrics": metrics}
    (folder / "stage.json").write_text(json.dumps(record))
    compression = {
        "domains": [ROW],
        "left_out": ["cl100k_base is left out: no ranks"],
        "picture": [{"domain": "news", "tokens": TOKENS}],
    }
    (folder / "logs" / "compression.json").write_text(json.dumps(compression))
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert '<span class="t1" title="6"> &lt;b&gt;</span>' in html
    assert "<b>4.50</b>" in html and "cl100k_base is left out" in html
    assert "bytes_per_token/news" not in html and "<dt>bytes_per_token</dt>" in html
