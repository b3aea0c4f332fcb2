"""YAML 1.2's rules, with lines."""

from __future__ import annotations

import pytest

from llmkit.yaml12 import parse, scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("1_000", 1000),
        ("-3", -3),
        (".5", 0.5),
        (".inf", float("inf")),
        ("~", None),
        ("", None),
        ("'12'", "12"),
        ("2026-01-01", "2026-01-01"),
        ("[1, two]", [1, "two"]),
        ("{a: 1}", {"a": 1}),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_an_override_that_is_no_yaml_is_a_text() -> None:
    assert scalar("a: b: c") == "a: b: c"


def test_lines_of_keys_and_items() -> None:
    document = parse("a:\n  b: 1\n  c:\n    - x\n    - y\n")
    assert document.lines[("a", "b")] == 2
    assert document.lines[("a", "c", 1)] == 5


def test_every_repeated_key_is_told_and_the_first_kept() -> None:
    document = parse("a: 1\nb: {x: 1, x: 2}\na: 3\n")
    assert document.value == {"a": 1, "b": {"x": 1}}
    assert [(line, problem.path) for line, problem in document.problems] == [
        (2, ("b", "x")),
        (3, ("a",)),
    ]
    assert "first on line 1" in document.problems[1][1].what


@pytest.mark.parametrize("text", ["a: [1,\nb", "a: b: c", "\t- x", "[" * 5000])
def test_broken_text_is_a_problem_not_an_exception(text: str) -> None:
    document = parse(text)
    assert document.value is None
    assert len(document.problems) == 1


def test_anchors_are_followed() -> None:
    assert parse("a: &x {z: 1}\nb: *x\n").value == {"a": {"z": 1}, "b": {"z": 1}}


def test_an_anchor_that_holds_itself_is_told() -> None:
    (problem,) = parse("a: &x {b: *x}\n").problems
    assert "nested too deeply" in str(problem[1])
