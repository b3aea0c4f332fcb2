"""Estimates against what can be counted."""

import pytest

from llmkit.data.tokens import bpe, training_estimate
from llmkit.data.tokens.training_estimate import (
    different_pieces,
    estimate,
    heaps_exponent,
    machine_memory,
    most_frequent_pair,
)


def test_the_most_frequent_pair_bounds_what_the_trainer_counts():
    # "ababab": ab 3 times of 5 neighbours; no pair of tokens can meet more often.
    assert most_frequent_pair(["ababab"]) == 3 / 5
    assert most_frequent_pair(["aaaa"]) == 1.0 == most_frequent_pair(["a"])


def test_heaps_law_through_two_counts():
    assert heaps_exponent(1000, 10_000, 2000, 40_000) == pytest.approx(0.5)
    assert heaps_exponent(10, 100, 1000, 200) == 1.0  # steeper than texts are
    assert heaps_exponent(10, 100, 10, 100) == 1.0


def test_pieces_grow_as_in_the_sample():
    pattern = bpe.split_pattern("gpt4")
    # Every word is new: twice the text has twice the pieces.
    words = [f"w{'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10]}" for i in range(100)]
    texts = [" " + word for word in words]
    size = sum(map(len, texts))
    assert len(different_pieces(texts, pattern)) == 100
    expected = estimate(texts, 10 * size, pattern, 300)
    assert expected.pieces == pytest.approx(1000, rel=0.05)
    same = estimate(["the same text again"] * 100, 10_000_000, pattern, 300)
    assert same.pieces < 4 * 100_000_000**0.4  # no new piece in the second half
    assert expected.memory_bytes < estimate(texts, 1000 * size, pattern, 300).memory_bytes


def test_counts_fit_until_the_pair_could_pass_32_bits():
    expected = estimate(["aaaaaaaa"], 100, bpe.split_pattern("gpt4"), 300)
    assert expected.countable_bytes == int((2**31 - 1) / 1.5)
    assert "0.0 MB of text" in str(expected)


def test_nothing_to_sample_is_no_error():
    assert estimate([], 0, bpe.split_pattern("gpt4"), 300).pieces == 0


def test_a_container_has_less_memory_than_its_machine(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(training_estimate, "CGROUP_LIMIT", limit)
    physical = machine_memory()
    limit.write_text("max\n")
    assert machine_memory() == physical
    limit.write_text("12345\n")
    assert machine_memory() == 12345
