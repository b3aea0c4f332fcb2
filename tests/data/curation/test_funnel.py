"""The funnel's figures, by hand."""

import json

from llmkit.data.curation.funnel import Funnel, rates, truth_of
from llmkit.data.documents import Document


def labelled(text: str, junk: str = "") -> Document:
    return Document(text, text, {"keep": not junk, "junk": junk})


def example() -> Funnel:
    """Four documents: step 1 drops one, step 2 cuts one in two, step 3 drops one half of it."""
    funnel = Funnel()
    good, split, spam, menu = (
        labelled("good"),
        labelled("left right"),
        labelled("spam!", "spam"),
        labelled("menu", "menu"),
    )
    for document in (good, split, spam, menu):
        funnel.count("in", 0, "", document)
        funnel.count_truth("truth", 0, document)
    funnel.count("removed", 1, "shouting", spam)
    funnel.count_truth("truth removed", 1, spam)
    left, right = labelled("left"), labelled("right")
    funnel.change(2, split, [left, right])
    funnel.count("removed", 3, "short", left)
    funnel.count_truth("truth removed", 3, left)
    for document in (good, right, menu):
        funnel.count("kept", 0, "", document)
    return funnel


STEPS = ["read", "one", "two", "three"]


def test_each_step_is_shown_what_the_one_before_passed_on():
    report = example().report(["files"], STEPS)
    # "left right" is 2 estimated tokens (1 space, 9 other characters), each other word 1.
    assert report["in"] == {"documents": 4, "characters": 4 + 10 + 5 + 4, "tokens": 5}
    assert report["kept"] == {"documents": 3, "characters": 4 + 5 + 4, "tokens": 3}
    ends = [(s["in"]["documents"], s["out"]["documents"]) for s in report["steps"]]
    assert ends == [(4, 4), (4, 3), (3, 4), (4, 3)]
    characters = [s["out"]["characters"] for s in report["steps"]]
    assert characters == [23, 18, 17, 13]
    assert report["steps"][-1]["out"] == report["kept"]
    shouting = {"documents": 1, "characters": 5, "tokens": 1}
    assert report["steps"][1]["removed"] == {"shouting": shouting}
    assert [s["changed"] for s in report["steps"]] == [0, 0, 1, 0]


def test_precision_and_recall_by_hand():
    truth = example().report(["files"], STEPS)["truth"]
    # Removed: spam (rightly) and half of a good document (wrongly); the menu got through.
    assert truth["all"] == {"removed": 2, "junk": 2, "precision": 0.5, "recall": 0.5}
    assert truth["steps"]["one"] == {"removed": 1, "junk": 2, "precision": 1.0, "recall": 0.5}
    assert truth["steps"]["three"] == {"removed": 1, "junk": 1, "precision": 0.0, "recall": 0.0}
    assert truth["steps"]["two"]["precision"] is None
    assert truth["kinds"]["spam"] == {"documents": 1, "removed": 1}


def test_without_labels_there_is_no_truth():
    funnel = Funnel()
    funnel.count_truth("truth", 0, Document("a", "a"))
    assert "truth" not in funnel.report(["files"], STEPS)
    assert truth_of(Document("a", "a", {"keep": False})) == "junk"
    assert rates(Funnel()._labels("truth"), Funnel()._labels("truth"))["recall"] is None


def test_blocks_add_up_and_pass_through_json():
    twice = Funnel()
    for _ in range(2):
        twice.add(Funnel.from_rows(json.loads(json.dumps(example().to_rows()))))
    once, report = example().report(["f"], STEPS), twice.report(["f"], STEPS)
    assert report["kept"]["characters"] == 2 * once["kept"]["characters"]
    assert report["truth"]["all"]["precision"] == once["truth"]["all"]["precision"]
