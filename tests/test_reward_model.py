"""Scores against single unpadded forwards, and against plain transformers after saving."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_chat import TEMPLATE, tiny_folder, tiny_tokenizer
from transformers import AutoModelForCausalLM

from llmkit.errors import InputError
from llmkit.model import context_length, without_bars
from llmkit.reward_model import (
    closing_ids,
    fresh_reward_model,
    load_reward_model,
    scored_rows,
    scores,
    shared,
)


def chat(*turns: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]


CHATS = [
    chat("sky?", "blue"),
    chat("Who bakes the bread in the village?", "Anna bakes the bread."),
    chat("sea", ""),
    chat("<|pad|> and <|end|>?", "that is <|pad|>", "and?", "é 海 <|pad|>"),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model with enlarged position embeddings: a shifted position changes scores."""
    folder = tiny_folder(tmp_path_factory.mktemp("base"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad(), without_bars():
        model.transformer.wpe.weight.mul_(30)
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def saved(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, tokenizer = fresh_reward_model(base, seed=1)
    folder = tmp_path_factory.mktemp("reward")
    with without_bars():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_batched_scores_equal_single_unpadded_forwards(saved: Path) -> None:
    model, tokenizer = load_reward_model(saved)
    rows = scored_rows(tokenizer, CHATS, None, context_length(model))
    assert len({len(row) for row in rows}) > 1  # so that there is padding
    with torch.no_grad():
        alone = [float(model(input_ids=torch.tensor([row])).logits[0, 0]) for row in rows]
    for size in (1, 3, 64):
        assert scores(model, tokenizer, CHATS, size) == pytest.approx(alone, abs=1e-5)
    assert max(alone) - min(alone) > 1e-2


def test_the_score_is_the_head_over_the_last_hidden_state(saved: Path) -> None:
    model, tokenizer = load_reward_model(saved)
    ids = tokenizer.apply_chat_template(CHATS[0], return_dict=True)["input_ids"]
    assert ids[-1] == tokenizer.convert_tokens_to_ids("<|end|>")
    with torch.no_grad():
        last = model.transformer(torch.tensor([ids])).last_hidden_state[0, -1]
        expected = float(last @ model.score.weight[0])
    assert scores(model, tokenizer, CHATS[:1]) == [pytest.approx(expected, abs=1e-6)]


PLAIN = """
import json, sys, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, chats = sys.argv[1], json.loads(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(folder)
model, loaded = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
ids = tokenizer.apply_chat_template(
    chats, padding=True, padding_side="right", return_tensors="pt", return_dict=True
)
with torch.no_grad():
    scores = model(**ids).logits[:, 0].tolist()
faults = [sorted(loaded[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")]
print(json.dumps({"scores": scores, "faults": faults, "llmkit": "llmkit" in sys.modules}))
"""


def test_plain_transformers_gives_the_same_scores_elsewhere(saved: Path) -> None:
    command = [sys.executable, "-c", PLAIN, str(saved), json.dumps(CHATS[:3])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found["faults"] == [[], [], []] and found["llmkit"] is False
    model, tokenizer = load_reward_model(saved)
    assert found["scores"] == pytest.approx(scores(model, tokenizer, CHATS[:3]), abs=1e-6)


def test_the_head_comes_from_the_seed_alone(base: Path) -> None:
    torch.manual_seed(7)
    one, _ = fresh_reward_model(base, seed=1)
    after = torch.rand(1)
    torch.manual_seed(8)
    same, _ = fresh_reward_model(base, seed=1)
    other, _ = fresh_reward_model(base, seed=2)
    assert torch.equal(one.score.weight, same.score.weight)
    assert not torch.equal(one.score.weight, other.score.weight)
    assert float(one.score.weight.detach().std()) == pytest.approx(
        one.config.initializer_range, rel=0.5
    )
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(1))  # nobody else's numbers are drawn
    body = AutoModelForCausalLM.from_pretrained(base).transformer.state_dict()
    for name, value in one.transformer.state_dict().items():
        assert torch.equal(value, body[name])


def test_a_reward_model_keeps_its_head(saved: Path) -> None:
    again, _ = fresh_reward_model(saved, seed=99)
    assert torch.equal(again.score.weight, load_file(saved / "model.safetensors")["score.weight"])


def test_an_unfinished_answer_is_scored_without_its_end(saved: Path) -> None:
    model, tokenizer = load_reward_model(saved)
    whole, cut = scored_rows(tokenizer, [CHATS[0]] * 2, [True, False], 64)
    assert whole == [*cut, tokenizer.convert_tokens_to_ids("<|end|>")]
    assert tokenizer.decode(cut).endswith("<|assistant|>blue")
    ended, unfinished = scores(model, tokenizer, [CHATS[0]] * 2, ended=[True, False])
    assert ended == scores(model, tokenizer, CHATS[:1])[0] != unfinished


def test_what_closes_an_answer(saved: Path) -> None:
    tokenizer = tiny_tokenizer()
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert closing_ids(tokenizer) == [end]
    newline = tiny_tokenizer(TEMPLATE.replace('~ "<|end|>" -}}', '~ "<|end|>\n" -}}'))
    assert closing_ids(newline) == [end, *newline("\n")["input_ids"]]
    bare = "{% for m in messages %}{{ m['content'] }}{% if add_generation_prompt %}:{% endif %}."
    with pytest.raises(InputError, match="closes an answer with no special token"):
        closing_ids(tiny_tokenizer(bare + "{% endfor %}"))
    assert shared([1, 2, 3], [1, 2, 4, 5]) == 2 and shared([1], [1, 2]) == 1 and shared([], []) == 0


def test_a_long_prompt_loses_its_beginning(saved: Path) -> None:
    model, tokenizer = load_reward_model(saved)
    long = chat("q" * 100, "blue")
    (row,) = scored_rows(tokenizer, [long], None, context_length(model))
    assert len(row) == 64 and tokenizer.decode(row).endswith("qqq<|end|><|assistant|>blue<|end|>")
    assert len(scores(model, tokenizer, [long])) == 1
    with pytest.raises(InputError, match="conversation 2: its answer leaves no room"):
        scores(model, tokenizer, [CHATS[0], chat("q", "z" * 100)])
    with pytest.raises(InputError, match="conversation 1: does not end with an answer"):
        scores(model, tokenizer, [chat("q")])


def without(folder: Path, to: Path, name: str) -> Path:
    """A copy of a model folder that lacks one weight."""
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    del weights[name]
    save_file(weights, to / "model.safetensors", {"format": "pt"})
    return to


def test_what_is_no_reward_model_is_named(base: Path, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no reward model: 1 weights .*score\.weight"):
        load_reward_model(base)
    with pytest.raises(InputError, match=r"is no reward model: 1 weights .*score\.weight"):
        load_reward_model(without(saved, tmp_path, "score.weight"))
    with pytest.raises(InputError, match=r"1 weights are missing \(transformer\.ln_f\.weight"):
        fresh_reward_model(without(base, tmp_path, "transformer.ln_f.weight"))
    with pytest.raises(InputError, match="there is no such folder"):
        load_reward_model(tmp_path / "nowhere")
    (saved_bytes := (tmp_path / "model.safetensors")).write_bytes(b"broken")
    with pytest.raises(InputError, match="cannot be loaded as a sequence classifier"):
        fresh_reward_model(tmp_path)
    saved_bytes.unlink()
    with pytest.raises(InputError, match="cannot be loaded as a sequence classifier"):
        fresh_reward_model(tmp_path)


def test_several_labels_are_refused(saved: Path, tmp_path: Path) -> None:
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(saved / "model.safetensors")
    weights["score.weight"] = torch.zeros(3, 32)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"] = {str(n): f"LABEL_{n}" for n in range(3)}
    config["label2id"] = {f"LABEL_{n}": n for n in range(3)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="gives 3 scores"):
        load_reward_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"chat_template": None}, "no chat template"),
        ({"pad_token": None}, "no padding token"),
        ({"pad_token": "<|end|>"}, "pads with <|end|>, which also ends a turn"),
    ],
)
def test_a_tokenizer_that_will_not_do(
    base: Path, tmp_path: Path, change: dict[str, Any], what: str
) -> None:
    for file in base.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tokenizer = tiny_tokenizer()
    for name, value in change.items():
        setattr(tokenizer, name, value)
    (tmp_path / "chat_template.jinja").unlink()
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=what.replace("|", r"\|")):
        fresh_reward_model(tmp_path)
