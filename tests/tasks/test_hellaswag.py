"""HellaSwag: the choice by likelihood, against a plain loop; the forms of its files."""

from __future__ import annotations

import bz2
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import WORDS, make_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from llmkit.errors import InputError
from llmkit.tasks.choosing import chosen, is_least, shares
from llmkit.tasks.hellaswag import HellaSwag, PathChoices, choice_of
from llmkit.tasks.task import Choice

REAL = Path(__file__).parents[3] / "shared/data/hellaswag_val/hellaswag_val_full.txt.bz2"
ROW = {"ctx": "the red cat", "endings": ["runs", "sees the dog", "finds", "old"], "label": "1"}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    torch.manual_seed(1)
    config = GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=22, n_positions=32)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6.0)
    return model


def choices(count: int = 40) -> list[Choice]:
    from random import Random

    draw = Random(0)
    found = []
    for _ in range(count):
        said = " ".join(draw.choices(WORDS, k=draw.randint(1, 8)))
        endings = [" " + " ".join(draw.choices(WORDS, k=draw.randint(1, 6))) for _ in range(4)]
        found.append(Choice(said, endings, draw.randrange(4)))
    return found


def test_choices_are_those_of_a_plain_loop(tokenizer: Any, model: GPT2LMHeadModel) -> None:
    """One row at a time, cross-entropy of the ending's tokens: sum, and mean."""
    expected = []
    for choice in choices():
        sums, means = [], []
        for ending in choice.endings:
            before = tokenizer(choice.text)["input_ids"]
            after = tokenizer(ending)["input_ids"]
            ids = torch.tensor([before + after])
            with torch.no_grad():
                logits = model(ids).logits[0, len(before) - 1 : -1]
            loss = torch.nn.functional.cross_entropy(
                logits, ids[0, len(before) :], reduction="none"
            )
            sums.append(loss.sum().item())
            means.append(loss.mean().item())
        expected.append(
            (sums.index(min(sums)) == choice.right, means.index(min(means)) == choice.right)
        )
    found = chosen(choices(), model, tokenizer, "test")
    assert found == expected
    assert {pair for pair in found} > {(True, True), (False, False)}, "length has to matter"
    figures = shares(found, "test")
    assert figures["accuracy"]["value"] == sum(right for right, _ in expected) / 40
    assert figures["accuracy_norm"]["value"] == sum(right for _, right in expected) / 40
    assert figures["accuracy"]["n"] == 40
    with pytest.raises(InputError, match="nothing to choose"):
        shares([], "test")


def test_what_does_not_fit_the_context_is_told(tokenizer: Any, model: GPT2LMHeadModel) -> None:
    long = Choice(" ".join(["cat"] * 30), [" dog dog dog", " cat"], 0)
    with pytest.raises(InputError, match="choice 1 has 30 and 3 tokens"):
        chosen([long], model, tokenizer, "test")


def test_the_first_of_equals_is_the_least() -> None:
    assert is_least([1.0, 1.0], 0) and not is_least([1.0, 1.0], 1)


def test_rows_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "val.jsonl"
    rows = [{**ROW, "label": label} for label in (1, "2", 0)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = HellaSwag(dataset=[PathChoices(path=str(file))])
    found = list(task.choices({}, 0))
    assert sorted(choice.right for choice in found) == [0, 1, 2]
    assert found[0].endings == [" runs", " sees the dog", " finds", " old"]
    assert list(task.choices({}, 0)) == found
    assert list(HellaSwag(dataset=task.dataset, limit=2).choices({}, 0)) == found[:2]
    assert list(task.files()) == [file]


def test_six_lines_a_row(tmp_path: Path) -> None:
    text = "the cat\n2\n runs\nsees\nfinds\nold\n" * 3
    (tmp_path / "v.txt").write_text(text)
    (tmp_path / "v.txt.bz2").write_bytes(bz2.compress(text.encode()))
    for name in ("v.txt", "v.txt.bz2"):
        task = HellaSwag(dataset=[PathChoices(path=str(tmp_path / name))])
        assert (
            list(task.choices({}, 0))
            == [Choice("the cat", [" runs", " sees", " finds", " old"], 2)] * 3
        )
    (tmp_path / "v.txt").write_text(text + "the dog\nsix\nruns\nold\n")
    with pytest.raises(InputError, match=r"v.txt:19: the six lines from here are no choice: label"):
        list(HellaSwag(dataset=[PathChoices(path=str(tmp_path / "v.txt"))]).choices({}, 0))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"ctx": " "}, "'ctx' is empty"),
        ({"endings": ["one"]}, "1 endings"),
        ({"endings": ["one", " "]}, "an empty one"),
        ({"label": "4"}, "label '4'"),
        ({"label": ""}, "label ''"),
    ],
)
def test_bad_rows(change: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        choice_of({**ROW, **change})
    with pytest.raises(ValueError, match="no column 'label' .there are: ctx, endings"):
        choice_of({"ctx": "a", "endings": ["b", "c"]})


def test_the_real_file() -> None:
    if not REAL.is_file():
        pytest.skip(f"needs the real data at {REAL}")
    found = list(HellaSwag(dataset=[PathChoices(path=str(REAL))]).choices({}, 0))
    assert len(found) == 10_042 and {len(choice.endings) for choice in found} == {4}
