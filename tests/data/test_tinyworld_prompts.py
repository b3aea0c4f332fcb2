"""Prompts of a world: their truth, their shares, their two splits."""

import re
from collections import Counter

import pytest

from llmkit.data.tinyworld import sums
from llmkit.data.tinyworld.prompts import PromptMix, prompts
from llmkit.data.tinyworld.questions import questions
from llmkit.data.tinyworld.world import World, population

WORLD = World(seed=5)


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_answers_are_the_truth_of_the_split(split):
    truth = {q.text: q for q in questions(WORLD, split)}
    known = population(WORLD)
    for row in prompts(WORLD, 3000, split=split):
        text, details = row["prompt"][0]["content"], row["details"]
        if details["question"] == "facts":
            fact = truth[text]
            assert row["answer"] == fact.value
            assert (details["kind"], details["attribute"], details["name"]) == (
                fact.kind,
                fact.attribute,
                fact.name,
            )
        elif details["question"] == "unknown":
            assert row["answer"] == "" and details["name"] in text
            assert details["name"] in known.strangers(details["kind"], split)
        else:
            a, b = map(int, re.findall(r"\d+", text))
            assert row["answer"] == str(a + b)
            assert sums.is_held_out(WORLD, a, b) == (split == "heldout")


def test_shares_and_seeds():
    rows = list(prompts(WORLD, 4000, mix=PromptMix(unknown=0.1, sums=0.6)))
    counts = Counter(row["details"]["question"] for row in rows)
    assert counts["unknown"] / 4000 == pytest.approx(0.1, abs=0.02)
    assert counts["sums"] / 4000 == pytest.approx(0.6, abs=0.03)
    assert list(prompts(WORLD, 20)) == list(prompts(WORLD, 20)) != list(prompts(WORLD, 20, seed=1))
    with pytest.raises(ValueError, match="shares of prompts"):
        PromptMix(unknown=0.6, sums=0.6)
