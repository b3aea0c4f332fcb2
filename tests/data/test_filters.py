"""The word and sentence splitters, and the table of steps."""

import dataclasses
import pickle
import subprocess
import sys

import pytest

from llmkit.build import load
from llmkit.data.filters import Step, count_sentences, duplicates, split_words
from llmkit.data.steps import STEPS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 3.5 km...", ["It", "'s", "3.5", "km", "..."]),
        ("don’t, well-known", ["don", "’t", ",", "well", "-", "known"]),
        ('"Yes!" (1,000 times)', ['"', "Yes", "!", '"', "(", "1,000", "times", ")"]),
        ("a@b.com, example.com. Next", ["a@b.com", ",", "example.com", ".", "Next"]),
        ("o'clock snake_case -- ____", ["o'clock", "snake_case", "--", "____"]),
        ("Übung naïve 日本", ["Übung", "naïve", "日本"]),
        (" \n\t", []),
    ],
)
def test_words(text, words):
    assert list(split_words(text)) == words


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("One.", 1),
        ("no end", 1),
        ("One. Two! Three?", 3),
        ('He said "yes." Then he left.', 2),
        ("Wait... what?!", 2),
        ("Version 3.5 of it.", 1),
        ("", 0),
    ],
)
def test_sentences(line, count):
    assert count_sentences(line) == count


def test_duplicates_count_every_copy_after_the_first():
    assert duplicates(["a", "bc", "bc", "d", "bc"]) == (2, 4)
    assert duplicates(["a", "b"]) == (0, 0)


def test_every_step_of_the_table_carries_its_own_name_and_settings_only():
    for name, target in STEPS.items():
        step = load(target)()
        assert isinstance(step, Step)
        assert step.name == name
        assert dataclasses.is_dataclass(step) and type(step).__dataclass_params__.frozen
        assert pickle.loads(pickle.dumps(step)) == step


def test_a_recipe_check_of_curation_imports_nothing_heavy():
    heavy = "{'torch', 'transformers', 'datasets', 'numpy', 'pyarrow', 'tokenizers'}"
    code = (
        "import sys, llmkit.stages.curate, llmkit.data.sources, llmkit.data.steps\n"
        f"print(*({heavy} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""
