"""Documents that hold an evaluation example, against a naive search for shared n-grams."""

import json
import random

import pytest

from llmkit.data.curation.decontamination import Decontaminate
from llmkit.data.curation.filters import Dropped
from llmkit.data.documents import Document
from llmkit.data.overlap import words_of
from llmkit.errors import InputError

QUESTION = "Natalia sold clips to forty eight of her friends in April and then half as many in May"
SHORT = "what is the largest planet of the solar system"  # 9 words


@pytest.fixture
def step(tmp_path) -> Decontaminate:
    rows = [{"question": "one two three"}, {"question": QUESTION, "answer": {"text": ["72"]}}]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "facts.csv").write_text(f'"{SHORT}?",Jupiter\n"short one",x\n')
    return Decontaminate(sets=(str(tmp_path / "sums.jsonl"), str(tmp_path / "facts.csv")))


def apply(step: Decontaminate, text: str) -> Document | Dropped:
    return step.apply(Document(text=text, id=""))


def test_a_whole_example_is_found_and_named(step):
    dropped = apply(step, f"Exercise: {QUESTION.upper()}! How many?")
    number = len(words_of(QUESTION)) - 13 + 1
    assert dropped == Dropped("contaminated", number, "sums.jsonl:2")


def test_thirteen_words_are_enough_and_twelve_are_not(step):
    words = QUESTION.split()
    assert apply(step, " ".join(words[3:16])).figure == 1
    assert isinstance(apply(step, " ".join(words[3:15])), Document)
    assert isinstance(apply(step, " ".join([*words[:8], "other", *words[9:17]])), Document)


def test_a_short_example_is_looked_for_whole_and_a_shorter_one_is_not(step):
    assert apply(step, f"So, {SHORT}? It is Jupiter.") == Dropped("contaminated", 1, "facts.csv:1")
    assert isinstance(apply(step, "the largest planet of the solar system is short one"), Document)
    assert isinstance(apply(step, "one two three"), Document)


def test_every_hit_is_listed(step):
    dropped = apply(step, f"{QUESTION}. {SHORT}.")
    assert dropped.detail == "sums.jsonl:2, facts.csv:1"


def test_hits_equal_those_of_a_naive_search(tmp_path):
    chance = random.Random(0)
    words = [f"w{number}" for number in range(4)]
    examples = [" ".join(chance.choices(words, k=12)) for _ in range(30)]
    (tmp_path / "set.txt").write_text("\n".join(examples))
    step = Decontaminate(sets=(str(tmp_path / "set.txt"),), ngram=8)
    wanted = {tuple(e.split()[i : i + 8]) for e in examples for i in range(5)}
    for _ in range(30):
        text = chance.choices([*words, "other"], k=400, weights=[9, 9, 9, 9, 1])
        hits = sum(tuple(text[i : i + 8]) in wanted for i in range(393))
        outcome = apply(step, " ".join(text))
        assert (outcome.figure if isinstance(outcome, Dropped) else 0) == hits


def test_settings_and_broken_files(tmp_path):
    with pytest.raises(ValueError, match="sets: there is none"):
        Decontaminate(sets=())
    with pytest.raises(ValueError, match="sets: there is no file none"):
        Decontaminate(sets=("none",))
    (tmp_path / "bad.jsonl").write_text('{"a": "b"}\n{oh')
    with pytest.raises(InputError, match=r"bad\.jsonl:2: not JSON"):
        Decontaminate(sets=(str(tmp_path / "bad.jsonl"),)).load()
    (tmp_path / "set.bin").write_text("x")
    with pytest.raises(InputError, match="is no file of examples"):
        Decontaminate(sets=(str(tmp_path / "set.bin"),)).load()
