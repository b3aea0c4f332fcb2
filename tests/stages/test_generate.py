"""`generate` on a tiny model: prompts of every form in, JSON Lines out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_chat import tiny_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmkit.data.chat.chat_rows import read_file
from llmkit.data.sources.readers import BadRows
from llmkit.errors import InputError
from llmkit.stage import Context, Facts
from llmkit.stages.generate import Generate, prompts_of

ASKED = [{"role": "user", "content": "sky?"}]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("base"))


def run(base: Path, out: Path, **keys: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    given = {"model": "base", "generation": {"max_new_tokens": 6}} | keys
    figures = Generate(**given).run(Context(name="generate", out=out, inputs={"base": base}))
    text = (out / "completions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()], figures


def test_texts_are_continued_by_a_base_model(base: Path, tmp_path: Path) -> None:
    rows, figures = run(base, tmp_path, prompts=["The sky", "A sea"])
    model = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    for row, text in zip(rows, ["The sky", "A sea"], strict=True):
        prompt = tokenizer("<|endoftext|>" + text, return_tensors="pt")
        new = model.generate(**prompt, max_new_tokens=6, do_sample=False)
        expected = tokenizer.decode(new[0, prompt["input_ids"].shape[1] :])
        assert row == {
            "prompt": text,
            "completion": expected,
            "ended": False,
            "tokens": 6,
            "sample": 0,
        }
    assert figures == {"completions": 2, "tokens": 12, "ended": 0.0}


def test_a_text_is_a_message_to_a_chat_model(base: Path, tmp_path: Path) -> None:
    rows, _ = run(base, tmp_path, prompts=["sky?"], chat=True)
    assert rows[0]["prompt"] == ASKED


def test_samples(base: Path, tmp_path: Path) -> None:
    settings = {"max_new_tokens": 6, "do_sample": True, "temperature": 2.0}
    keys = {"prompts": ["The sky", "A sea"], "num_samples": 3, "generation": settings}
    rows, _ = run(base, tmp_path, **keys)
    assert [(row["prompt"], row["sample"]) for row in rows] == [
        (prompt, sample) for prompt in ("The sky", "A sea") for sample in range(3)
    ]
    assert len({row["completion"] for row in rows}) > 3
    assert rows == run(base, tmp_path, **keys)[0]


def test_completions_are_conversations_for_a_later_stage(base: Path, tmp_path: Path) -> None:
    settings = {"max_new_tokens": 6, "do_sample": True, "temperature": 2.0}
    run(base, tmp_path, prompts=["sky?"], chat=True, generation=settings)
    (chat,) = read_file(tmp_path / "completions.jsonl", BadRows())
    assert chat[:1] == ASKED and chat[1]["role"] == "assistant"


def test_prompts_of_files(tmp_path: Path) -> None:
    rows = [{"prompt": "The sky"}, {"messages": ASKED}, {"prompt": ASKED, "id": 3}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(prompts_of(tmp_path / "a.jsonl")) == ["The sky", ASKED, ASKED]
    (tmp_path / "a.txt").write_text("The sky\n\nA sea\n")
    assert list(prompts_of(tmp_path / "a.txt")) == ["The sky", "A sea"]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("{cut", "a.jsonl:1: not JSON"),
        ('{"text": "sky"}', r"a.jsonl:1: no prompt in it \(columns: text\)"),
        ('{"prompt": ""}', "no prompt in it"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "message 1 is the assistant's"),
    ],
)
def test_bad_prompts_are_named(tmp_path: Path, row: str, what: str) -> None:
    (tmp_path / "a.jsonl").write_text(row + "\n")
    with pytest.raises(InputError, match=what):
        list(prompts_of(tmp_path / "a.jsonl"))


def test_a_missing_or_empty_file_is_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none.txt: cannot be read"):
        run(base, tmp_path, prompts=str(tmp_path / "none.txt"))
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match="empty.txt: holds no prompt"):
        run(base, tmp_path, prompts=str(tmp_path / "empty.txt"))


def test_problems() -> None:
    def told(facts: Facts | None = None, **keys: Any) -> list[str]:
        given = {"model": "base", "prompts": ["x"]} | keys
        return [str(p) for p in Generate(**given).problems({"base": facts or Facts()})]

    assert told() == []
    assert "prompts: is empty" in told(prompts=[])[0]
    assert "do_sample: true" in told(num_samples=2)[0]
    assert "batch_size: 0 is not positive" in told(batch_size=0)[0]
    small = Facts(context_length=64)
    assert told(small)[0].startswith("generation: 128 new tokens leave no room for a prompt in")
    assert told(small, generation={"max_new_tokens": 63}) == []
    (message,) = told(small, generation={"max_new_tokens": 64})
    assert message.startswith("generation.max_new_tokens: 64 new tokens")
    assert "is not positive" in told(generation={"max_new_tokens": None})[0]
    assert "say max_new_tokens" in told(generation={"max_length": 9})[0]
    assert "num_samples" in told(generation={"num_return_sequences": 2})[0]
    assert "has no template" in told(Facts(chat_template=False), chat=True)[0]
