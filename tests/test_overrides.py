"""Dotted paths and variables."""

from __future__ import annotations

import pytest

from llmkit.overrides import OverrideError, assign, split, substitute, unknown_variables


def test_split() -> None:
    assert split("curate.sources[0].limit") == ("curate", "sources", 0, "limit")
    assert split("seed") == ("seed",)


@pytest.mark.parametrize("text", ["", "a..b", "a.[0]", "a[x]", ".a"])
def test_what_is_no_dotted_path(text: str) -> None:
    with pytest.raises(OverrideError):
        split(text)


def test_assign_makes_mappings_on_the_way() -> None:
    mapping: dict = {"a": {"b": 1}, "l": [{"x": 1}], "n": None}
    assign(mapping, ("a", "c", "d"), 2)
    assign(mapping, ("l", 0, "x"), 3)
    assign(mapping, ("n", "m"), 4)
    assert mapping == {"a": {"b": 1, "c": {"d": 2}}, "l": [{"x": 3}], "n": {"m": 4}}


@pytest.mark.parametrize("path", [("l", 1), ("a", 0), ("a", "b", "c"), ("n", 0, "x")])
def test_assign_refuses_paths_that_lead_nowhere(path: tuple) -> None:
    mapping = {"a": {"b": 1}, "l": [0]}
    with pytest.raises(OverrideError):
        assign(mapping, path, 9)
    assert mapping == {"a": {"b": 1}, "l": [0]}


def test_substitute_keeps_the_type_of_a_whole_variable() -> None:
    value = {"a": "${n}", "b": ["x/${d}/${n}", 1], "c": "$d"}
    assert substitute(value, {"n": 3, "d": "data"}) == {"a": 3, "b": ["x/data/3", 1], "c": "$d"}


def test_unknown_variables_are_found_at_every_depth() -> None:
    value = {"a": [{"b": "${x}/${y}"}]}
    assert list(unknown_variables(value, {"y": 1})) == [(("a", 0, "b"), "x")]
