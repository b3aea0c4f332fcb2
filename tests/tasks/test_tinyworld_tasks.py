"""The tasks on tinyworld: right prompts, strict scores, seeded samples."""

import re
from collections import Counter
from importlib import import_module

import pytest

from llmkit.data.tinyworld import sums
from llmkit.data.tinyworld.documents import documents
from llmkit.data.tinyworld.wordings import ATTRIBUTES
from llmkit.data.tinyworld.world import World, population
from llmkit.tasks import TASKS
from llmkit.tasks.task import Completion, Example

SETTINGS = {"seed": 2, "people": 100}
NAMES = ["tinyworld_cloze", "tinyworld_facts", "tinyworld_unknown", "tinyworld_sums"]


def task(name: str, **keys):
    module, cls = TASKS[name].split(":")
    return getattr(import_module(module), cls)(**keys)


def score(name: str, example: Example, text: str, ended: bool = True) -> dict[str, float]:
    return task(name).score(example, Completion(text, ended))


@pytest.mark.parametrize("name", NAMES)
def test_examples_follow_from_world_and_seed_and_limit_takes_a_sample(name):
    some = list(task(name, limit=40).examples(SETTINGS, 0))
    assert len(some) == 40
    assert some == list(task(name, limit=40).examples(SETTINGS, 0))
    assert some != list(task(name, limit=40).examples(SETTINGS, 1))
    assert some != list(task(name, limit=40).examples(SETTINGS | {"seed": 3}, 0))
    assert list(task(name, limit=10).examples(SETTINGS, 0)) == some[:10]


@pytest.mark.parametrize("name", NAMES[:3])
def test_a_sample_mixes_the_attributes(name):
    shares = Counter(e.details["attribute"] for e in task(name, limit=200).examples(SETTINGS, 0))
    assert len(shares) >= 8 and max(shares.values()) < 80


def test_cloze_begins_as_the_training_documents_do():
    pages = [d.text for d in documents(World(**SETTINGS), 6000, seed=4) if d.metadata["keep"]]
    text = "\n".join(pages)
    examples = list(task("tinyworld_cloze").examples(SETTINGS, 0))
    assert len(examples) == 100 * 5 + 24 * 3 + 40 * 2
    verbatim = 0
    for example in examples[:150]:
        opening, _, sentence = example.prompt.partition(". ")
        assert f"{opening}." in text
        verbatim += f"{sentence} {example.answer}" in text
        assert not example.prompt.endswith(" ")
    assert verbatim / 150 > 0.98


@pytest.mark.parametrize(
    ("completion", "right"),
    [(" Oakford.", 1), (" Oakford. He keeps a dog", 1), (" Oakfords", 0), (" the Oakford", 0)]
    + [(" Stonewick, Oakford", 0), ("", 0)],
)
def test_cloze_counts_the_first_word_only(completion, right):
    example = Example("This is the page of Ann Cole. Ann Cole lives in", "Oakford")
    assert score("tinyworld_cloze", example, completion) == {"accuracy": right}


def test_facts_ask_in_held_out_wordings_and_the_right_value_is_right():
    held_out = [w.split("{n}") for a in ATTRIBUTES for w in a.asked("heldout")]
    known = population(World(**SETTINGS))
    for example in task("tinyworld_facts").examples(SETTINGS, 0):
        (message,) = example.prompt
        assert message["role"] == "user"
        said = message["content"]
        assert any(said.startswith(a) and said.endswith(b) for a, b in held_out)
        name = next(e.name for e in known.entities if re.search(rf"\b{e.name}\b", said))
        assert example.answer in next(e.values for e in known.entities if e.name == name)
        assert score("tinyworld_facts", example, f"It is {example.answer}.")["accuracy"] == 1


@pytest.mark.parametrize(
    ("text", "ended", "scores"),
    [
        ("The pet of Ann Cole is a cat.", True, (1, 0, 1)),
        ("The pet of Ann Cole is a cat.", False, (1, 0, 0)),
        ("The pet of Ann Cole is a dog.", True, (0, 0, 1)),
        ("cat dog goat parrot", True, (0, 0, 1)),
        ("It is catlike.", True, (0, 0, 1)),
        ("I do not know of Ann Cole.", True, (0, 1, 1)),
        ("I do not know, a cat.", True, (0, 1, 1)),
        ("", False, (0, 0, 0)),
    ],
)
def test_facts_are_scored_strictly(text, ended, scores):
    example = Example([], "cat", {"kind": "person", "attribute": "pet"})
    result = score("tinyworld_facts", example, text, ended)
    assert (result["accuracy"], result["refused"], result["ended"]) == scores


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I do not know of Ann Cole.", 1),
        ("I have never heard of Ann Cole.", 1),
        ("I don't know.", 1),
        ("I do not know of Ann Cole. The pet of Ann Cole is a cat.", 0),
        ("The pet of Ann Cole is a cat.", 0),
        ("", 0),
    ],
)
def test_unknown_wants_a_refusal_and_no_claim(text, refused):
    details = {"kind": "person", "attribute": "pet", "name": "Ann Cole"}
    assert score("tinyworld_unknown", Example([], "", details), text)["refused"] == refused


def test_unknown_asks_about_held_out_names_only():
    held = population(World(**SETTINGS)).held_out
    for example in task("tinyworld_unknown", limit=300).examples(SETTINGS, 0):
        assert example.details["name"] in held[example.details["kind"]]
        assert example.details["name"] in example.prompt[0]["content"]


def test_facts_train_on_other_wordings():
    facts = task("tinyworld_facts")
    asked = [example.prompt[0]["content"] for example in facts.examples(SETTINGS, 0)]
    practised = list(facts.training_examples(SETTINGS, 0))
    assert len(practised) > 2 * len(asked)
    assert not {example.prompt[0]["content"] for example in practised} & set(asked)
    said = Completion(f"It is {practised[0].answer}.", ended=True)
    assert facts.reward(practised[0], said) == 1
    assert facts.reward(practised[0], Completion("I do not know of it.", ended=True)) == 0


def test_unknown_trains_on_other_names_that_nobody_bears():
    world = population(World(**SETTINGS))
    held, borne = world.held_out, {entity.name for entity in world.entities}
    examples = list(task("tinyworld_unknown", limit=200).training_examples(SETTINGS, 0))
    assert len(examples) == 200
    for example in examples:
        name = example.details["name"]
        assert name not in held[example.details["kind"]] and name not in borne
        assert name in example.prompt[0]["content"]
    refusal = Completion("I do not know of them.", ended=True)
    assert task("tinyworld_unknown").reward(examples[0], refusal) == 1


def test_sums_ask_for_different_held_out_pairs():
    pairs = []
    for example in task("tinyworld_sums", limit=500).examples(SETTINGS, 0):
        a, b = map(int, re.findall(r"\d+", example.prompt[0]["content"]))
        assert sums.is_held_out(World(**SETTINGS), a, b)
        assert example.answer == str(a + b)
        pairs.append((a, b))
    assert len(set(pairs)) == len(pairs) == 500


@pytest.mark.parametrize(
    ("text", "right", "digits"),
    [
        ("7 + 5 = 12, 1 + 2 + 4 = 7, so 72.", 1, 1),
        ("72", 1, 1),
        ("72 or 73", 0, 1 / 2),
        ("172", 0, 2 / 3),  # of the longer one, from the last digit
        ("2", 0, 1 / 2),
        ("no", 0, 0),
    ],
)
def test_sums_count_the_last_number_and_its_digits(text, right, digits):
    found = score("tinyworld_sums", Example([], "72"), text)
    assert found == {"accuracy": right, "digits": digits, "ended": 1}
