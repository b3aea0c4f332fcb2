"""`evaluate` on tiny models: figures against counts by hand, samples, repeatability."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_chat import tiny_folder
from tiny_training import make_shards
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmkit.data.chat.conversations import PathConversations
from llmkit.data.tokens.shards import TokenStream
from llmkit.errors import GateError, InputError
from llmkit.metrics.intervals import mean, wilson
from llmkit.stage import Context, Facts
from llmkit.stages import evaluate
from llmkit.stages.evaluate import Evaluate
from llmkit.tasks.asking import prompts
from llmkit.tasks.bits_per_byte import BitsPerByteTask
from llmkit.tasks.conversation_loss import ConversationLoss
from llmkit.tasks.task import Completion, Example, Task

CONTEXT = 48


@dataclass(frozen=True, kw_only=True)
class Letters(Task):
    """Does an `e` come, and which share of the letters is it?"""

    chat: bool = True

    def examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        for text in ("sky", "the sea", "bread")[: self.limit]:
            prompt = [{"role": "user", "content": text}] if self.chat else text
            yield Example(prompt, "e")

    def score(self, example: Example, completion: Completion) -> dict[str, float]:
        share = completion.text.count("e") / max(len(completion.text), 1)
        return {"has_e": float(share > 0), "share": share + 0.25}


@dataclass(frozen=True, kw_only=True)
class Asked(Letters):
    """The same of other texts."""

    texts: tuple[str, ...]

    def examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        for text in self.texts:
            yield Example([{"role": "user", "content": text}], "e")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    tiny_folder(folder / "one", CONTEXT)
    tokenizer = AutoTokenizer.from_pretrained(folder / "one")
    make_shards(folder / "shards", tokenizer, documents=40)
    row = json.dumps({"prompt": "sky?", "completion": "blue"}) + "\n"
    (folder / "chats.jsonl").write_text(row * 3, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Letters` is in no table of tasks."""
    known = evaluate.name_of
    monkeypatch.setattr(
        evaluate, "name_of", lambda task: "letters" if isinstance(task, Letters) else known(task)
    )


def run(inputs: Path, out: Path, stage: Evaluate) -> tuple[dict[str, Any], dict[str, Any]]:
    """metrics.json of the stage, and what it returns."""
    out.mkdir(parents=True, exist_ok=True)
    folders = {"one": inputs / "one", "two": inputs / "one", "shards": inputs / "shards"}
    figures = stage.run(Context(name="evaluate", out=out, inputs=folders))
    return json.loads((out / "metrics.json").read_text()), figures


def test_figures_are_those_of_the_samples(inputs: Path, tmp_path: Path) -> None:
    stage = Evaluate(models=["one"], tasks=[Letters()], generation={"max_new_tokens": 5})
    metrics, figures = run(inputs, tmp_path, stage)
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [row["prompt"][0]["content"] for row in rows] == ["sky", "the sea", "bread"]
    assert {row["model"] for row in rows} == {"one"} and {row["task"] for row in rows} == {
        "letters"
    }
    shares = [row["completion"].count("e") / len(row["completion"]) + 0.25 for row in rows]
    assert metrics["one"]["letters/share"] == pytest.approx(mean(shares).as_dict())
    hits = sum("e" in row["completion"] for row in rows)
    assert metrics["one"]["letters/has_e"] == pytest.approx(wilson(hits, 3).as_dict())
    assert figures["one/letters/has_e"] == hits / 3


def test_completions_are_the_models_own(inputs: Path, tmp_path: Path) -> None:
    for chat in (True, False):
        tasks = [Letters(chat=chat)]
        stage = Evaluate(models=["one"], tasks=tasks, generation={"max_new_tokens": 5})
        run(inputs, tmp_path, stage)
        model = AutoModelForCausalLM.from_pretrained(inputs / "one")
        tokenizer = AutoTokenizer.from_pretrained(inputs / "one")
        form = "<|endoftext|><|user|>{}<|end|><|assistant|>" if chat else "<|endoftext|>{}"
        for line in (tmp_path / "samples.jsonl").read_text().splitlines():
            row = json.loads(line)
            asked = row["prompt"][0]["content"] if chat else row["prompt"]
            prompt = tokenizer(form.format(asked), return_tensors="pt")
            new = model.generate(**prompt, max_new_tokens=5, do_sample=False)
            text = tokenizer.decode(
                new[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True
            )
            assert row["completion"] == text


def test_likelihood_of_the_validation_documents(inputs: Path, tmp_path: Path) -> None:
    source = PathConversations(path=str(inputs / "chats.jsonl"))
    tasks = [BitsPerByteTask(), ConversationLoss(dataset=[source])]
    stage = Evaluate(models=["one"], tasks=tasks, shards="shards")
    metrics, _ = run(inputs, tmp_path, stage)
    model = AutoModelForCausalLM.from_pretrained(inputs / "one").eval()
    tokenizer = AutoTokenizer.from_pretrained(inputs / "one")
    ids = tokenizer("<|endoftext|><|user|>sky?<|end|><|assistant|>blue<|end|>")["input_ids"]
    with torch.no_grad():
        log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    answer = len(tokenizer("blue<|end|>")["input_ids"])
    nats = -sum(float(log_p[t - 1, ids[t]]) for t in range(len(ids) - answer, len(ids)))
    found = metrics["one"]
    assert found["conversation_loss/nats_per_token"]["value"] == pytest.approx(nats / answer, 1e-5)
    bits = nats / math.log(2) / len("blue")
    assert found["conversation_loss/bits_per_byte"]["value"] == pytest.approx(bits, 1e-5)
    entry = json.loads((inputs / "shards/index.json").read_text())["splits"]["validation"]
    text = found["bits_per_byte/bits_per_byte"]
    assert text["n"] == entry["documents"] and text["low"] < text["value"] < text["high"]
    in_all = found["bits_per_byte/nats_per_token"]["value"] * entry["tokens"]
    assert text["value"] == pytest.approx(in_all / math.log(2) / entry["bytes"], rel=1e-6)


def test_the_same_again(inputs: Path, tmp_path: Path) -> None:
    settings = {"max_new_tokens": 6, "do_sample": True, "temperature": 1.5}
    stage = Evaluate(models=["one", "two"], tasks=[Letters()], generation=settings, batch_size=2)
    metrics, _ = run(inputs, tmp_path / "a", stage)
    run(inputs, tmp_path / "b", stage)
    for name in ("metrics.json", "samples.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert metrics["one"] == metrics["two"]  # the same weights under two names


def test_a_task_may_pick_its_models(inputs: Path, tmp_path: Path) -> None:
    tasks = [Letters(models=["two"])]
    stage = Evaluate(models=["one", "two"], tasks=tasks, generation={"max_new_tokens": 2})
    metrics, _ = run(inputs, tmp_path, stage)
    assert metrics["one"] == {} and "letters/has_e" in metrics["two"]


def test_prompts_beyond_the_context_are_told(
    inputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(inputs / "one")
    examples = list(Letters().examples({}, 0))
    two_fit = sorted(map(len, prompts(tokenizer, examples)))[1]
    generation = {"max_new_tokens": CONTEXT - two_fit}
    stage = Evaluate(models=["one"], tasks=[Letters()], generation=generation)
    with caplog.at_level(logging.WARNING, logger="llmkit"):
        metrics, _ = run(inputs, tmp_path, stage)
    assert "1 of 3 prompts do not fit" in caplog.text
    assert metrics["one"]["letters/has_e"]["n"] == 2
    stage = Evaluate(models=["one"], tasks=[Letters()], generation={"max_new_tokens": CONTEXT})
    with pytest.raises(InputError, match="no example whose prompt fits"):
        run(inputs, tmp_path, stage)


def test_one_score_has_no_interval(inputs: Path, tmp_path: Path) -> None:
    stage = Evaluate(models=["one"], tasks=[Letters(limit=1)], generation={"max_new_tokens": 2})
    with pytest.raises(InputError, match="raise the task's limit"):
        run(inputs, tmp_path, stage)


def test_problems() -> None:
    def told(**changes: Any) -> list[str]:
        given: dict[str, Any] = {"models": ["one"], "tasks": [Letters()]} | changes
        return [str(problem) for problem in Evaluate(**given).problems({})]

    assert told() == []
    assert told(models=[])[0].startswith("models: is empty")
    assert told(tasks=[])[0].startswith("tasks: is empty")
    assert "'nine' is none of the stage's models" in told(tasks=[Letters(models=["nine"])])[0]
    assert "twice" in told(tasks=[Letters(), Letters(limit=2)])[0]
    assert "batch_size" in told(batch_size=0)[0]
    assert "samples: -1 is negative" in told(samples=-1)[0]
    assert "no model takes it" in told(tasks=[Letters(models=[])])[0]
    bounded = [Letters(max_overlap=0.1)]
    assert told(tasks=bounded) == []
    assert "`overlap: false` says not to look" in told(tasks=bounded, overlap=False)[0]
    with pytest.raises(ValueError, match=r"max_overlap: 1\.5 is no share"):
        Letters(max_overlap=1.5)


def test_what_is_known_beforehand_to_be_impossible() -> None:
    def told(facts: dict[str, Facts], **changes: Any) -> list[str]:
        given: dict[str, Any] = {"models": ["one", "two"], "tasks": [Letters()]} | changes
        return [str(problem) for problem in Evaluate(**given).problems(facts)]

    small = {"one": Facts(context_length=32), "two": Facts(context_length=64)}
    assert told(small) == [
        "tasks[0]: 32 new tokens leave no room for a prompt in one's 32; "
        "set generation.max_new_tokens lower"
    ]
    assert told(small, tasks=[Letters(models=["two"])]) == []
    assert told(small, generation={"max_new_tokens": 31}) == []
    found = told(small, generation={"max_new_tokens": 40})
    assert len(found) == 1 and found[0].startswith("generation.max_new_tokens: 40 new tokens")
    shards = {"tokenize": Facts(validation=False)}
    assert "bits_per_byte: there are no shards" in told({}, tasks=[BitsPerByteTask()])[0]
    (message,) = told(shards, tasks=[BitsPerByteTask()], shards="tokenize")
    assert message.startswith("tasks[0]: bits_per_byte: tokenize holds out no document")
    assert told({"tokenize": Facts()}, tasks=[BitsPerByteTask()], shards="tokenize") == []


def test_every_score_is_logged(inputs: Path, tmp_path: Path) -> None:
    settings = {"max_new_tokens": 5}
    stage = Evaluate(models=["one", "two"], tasks=[Letters()], generation=settings, samples=1)
    metrics, _ = run(inputs, tmp_path, stage)
    rows = [json.loads(line) for line in (tmp_path / "logs/scores.jsonl").read_text().splitlines()]
    assert [(row["model"], row["task"]) for row in rows] == [
        ("one", "letters"),
        ("one", "letters"),
        ("one", "letters"),
        ("two", "letters"),
        ("two", "letters"),
        ("two", "letters"),
    ]
    assert [row["prompt"][0]["content"] for row in rows[:3]] == ["sky", "the sea", "bread"]
    hits = [row["scores"]["has_e"] for row in rows[:3]]
    assert metrics["one"]["letters/has_e"]["value"] == pytest.approx(sum(hits) / 3)
    assert all(row["scores"]["has_e"] == float("e" in row["completion"]) for row in rows)
    samples = (tmp_path / "samples.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in samples] == [rows[0], rows[3]]


def test_overlap_with_the_training_text_is_told(inputs: Path, tmp_path: Path) -> None:
    """`Letters` asks for a document of the training split, and for two texts that are not in it."""
    tokenizer = AutoTokenizer.from_pretrained(inputs / "one")
    seen = tokenizer.decode(next(TokenStream(inputs / "shards", "train").iter_documents())[:-1])
    new = ("no such words are found in any document here", "nor are these words of another text")
    folders = {"one": inputs / "one", "shards": inputs / "shards"}

    def overlap(**options: Any) -> Context:
        task = Asked(texts=(seen, *new), **options)
        tmp_path.mkdir(exist_ok=True)
        context = Context(name="evaluate", out=tmp_path, inputs=folders)
        stage = Evaluate(models=["one"], tasks=[task], shards="shards")
        stage._look_for_overlap(context)
        return context

    (gate,) = overlap().gate_results
    assert gate["passed"] is True and gate["measured"] == "letters: 1 of 3 examples (33.3 %)"
    record = json.loads((tmp_path / "overlap.json").read_text())["letters"]
    assert (record["overlapping"], record["n"]) == (1, 3) and record["examples"] == [[seen, "e"]]
    assert overlap(max_overlap=0.5).gate_results[0]["bound"] == "at most 50 %"
    with pytest.raises(GateError, match=r"gate overlap: measured letters: 1 of 3 .* at most 30 %"):
        overlap(max_overlap=0.3)


def test_overlap_without_training_text_is_told_not_to_be_known(
    inputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Evaluate(models=["one"], tasks=[Letters()], generation={"max_new_tokens": 2})
    with caplog.at_level(logging.WARNING, logger="llmkit"):
        run(inputs, tmp_path / "a", stage)
    assert "gate overlap could not be measured: the stage knows no training text" in caplog.text
    assert not (tmp_path / "a" / "overlap.json").exists()
    caplog.clear()
    run(inputs, tmp_path / "b", dataclasses.replace(stage, overlap=False))
    assert "overlap" not in caplog.text
