"""The drawn graph: every stage a box, every parent an arrow, none through a box."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
import upper_run

from llmkit.report import lineage

LADDER = upper_run.LADDER


def drawn(parents: lineage.Parents) -> ElementTree.Element:
    return ElementTree.fromstring(lineage.lineage(parents, {}))


def test_rows_are_the_longest_ways_from_a_source() -> None:
    assert lineage.by_depth(LADDER) == [
        ["pretrain"],
        ["sft"],
        ["reward", "dpo", "grpo"],
        ["ppo"],
        ["evaluate"],
    ]


def test_a_row_stands_by_its_parents() -> None:
    parents = {"a": [], "b": [], "under_b": ["b"], "under_a": ["a"], "under_both": ["a", "b"]}
    assert lineage.by_depth(parents)[1] == ["under_a", "under_both", "under_b"]


def test_a_box_for_every_stage_and_an_arrow_for_every_parent() -> None:
    svg = drawn(LADDER)
    names = [text.text for text in svg.iter("text") if text.attrib.get("class") == "name"]
    assert sorted(map(str, names)) == sorted(LADDER)
    ways = [path for path in svg.iter("path") if path.attrib["class"] == "way"]
    assert len(ways) == sum(map(len, LADDER.values())) == 11
    assert svg[0].tag == "title" and "ppo from sft, reward; " in str(svg[0].text)


def test_lanes_lie_beside_the_boxes_and_are_shared_where_rows_allow_it() -> None:
    svg = drawn(LADDER)
    right = max(float(box.attrib["x"]) + lineage.BOX for box in svg.iter("rect"))
    for path in svg.iter("path"):
        for before in re.findall(r"(\S+) \S+V", path.attrib["d"]):
            assert right < float(before) < float(svg.attrib["width"])
    depths = {name: number for number, name in enumerate("abcdefg")}
    chain = {"a": [], "b": ["a"], "c": ["a", "b"], "d": ["c"], "e": ["c", "d"]}
    assert lineage.lanes_of(chain, depths) == {"a": 0, "c": 0}
    nested = {"a": [], "b": ["a"], "c": ["b"], "d": ["b", "c"], "e": ["a", "d"]}
    assert lineage.lanes_of(nested, depths) == {"a": 0, "b": 1}


def test_edited_records_still_end() -> None:
    circle = {"a": ["b", "elsewhere"], "b": ["a", "a"]}
    assert lineage.by_depth(circle) == [["a"], ["b"]]
    assert lineage.in_words(circle) == "a from sources; b from a"


@pytest.mark.parametrize("name", ["<script>x</script>", "\"&'", "a" * 60])
def test_foreign_names_are_text_and_fit_their_box(name: str) -> None:
    svg = ElementTree.fromstring(lineage.lineage({name: []}, {name: "<b>"}))
    texts = ["".join(text.itertext()) for text in svg.iter("text")]
    assert len(texts[0]) <= lineage.LONGEST and texts[1] == "<b>"
    assert name in str(svg[0].text)
    assert not list(svg.iter("script"))
