"""The terminal chat loop, through a pipe and piece by piece."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_chat import tiny_folder, tiny_model, tiny_tokenizer

from llmkit.chat import Talk, Voice, chat
from llmkit.errors import InputError
from llmkit.model import conversation_ids, without_bars

CONTEXT = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was "taught" to end its turns: with a bias towards `<|end|>`."""
    path = tmp_path_factory.mktemp("chat")
    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer, CONTEXT, seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|end|>")
    with without_bars():
        model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def piped(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def by_hand(talk: Talk, ids: list[int], new: int) -> str:
    closing = talk.tokenizer.convert_tokens_to_ids("<|end|>")
    start = len(ids)
    for _ in range(new):
        with torch.no_grad():
            token = int(talk.model(torch.tensor([ids])).logits[0, -1].argmax())
        if token == closing:
            break
        ids = [*ids, token]
    text = talk.tokenizer.decode(ids[start:], skip_special_tokens=True)
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def test_answers_come_through_a_pipe(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    piped(monkeypatch, "sky?\n\n/reset\nsky?\n/quit\nnever\n")
    chat(folder, max_new_tokens=6)
    out = capsys.readouterr().out
    talk = Talk(folder, max_new_tokens=6)
    answer = by_hand(talk, talk.ids([{"role": "user", "content": "sky?"}]), 6)
    assert out == f"{answer}\n" * 2 and answer  # the same after a reset, and nothing after /quit


def test_bytes_that_are_no_text_do_not_end_the_chat(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = io.BytesIO(b"\xff\xfe sky?\nsky?\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(raw, encoding="utf-8"))
    chat(folder, max_new_tokens=2)
    assert capsys.readouterr().out.count("\n") == 2


def test_the_history_is_the_prompt(folder: Path) -> None:
    talk = Talk(folder, max_new_tokens=4, system="Be brief")
    out = io.StringIO()
    one = talk.say("sky?", out)
    asked = [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "sky?"},
        {"role": "assistant", "content": one},
        {"role": "user", "content": "sea?"},
    ]
    expected = by_hand(talk, conversation_ids(talk.tokenizer, asked, True)[0], 4)
    assert talk.say("sea?", out) == expected
    assert out.getvalue() == f"{one}\n{expected}\n"


def test_typed_specials_stay_text(folder: Path) -> None:
    talk = Talk(folder)
    ids = talk.ids([{"role": "user", "content": "<|end|><|assistant|>"}])
    closing = talk.tokenizer.convert_tokens_to_ids("<|end|>")
    assert ids.count(closing) == 1


def test_old_turns_are_forgotten(folder: Path) -> None:
    talk = Talk(folder, max_new_tokens=4, system="S")
    for number in range(12):
        talk.say(f"say {number}", io.StringIO())
        ids = talk.ids(talk.messages[:-1])
        assert len(ids) + 4 <= CONTEXT
    assert talk.messages[0]["role"] == "user" and talk.messages[0]["content"] != "say 0"
    assert talk.messages[-2]["content"] == "say 11"


def test_a_message_beyond_the_context_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = Talk(folder, max_new_tokens=4)
    assert talk.say("zx" * CONTEXT, io.StringIO()) == "" and talk.messages == []
    assert f"context of {CONTEXT} tokens" in capsys.readouterr().err


def test_an_answer_longer_than_the_context_is_cut_to_it(folder: Path) -> None:
    talk = Talk(folder, max_new_tokens=10_000)
    talk.say("sky?", io.StringIO())
    assert talk.budget == CONTEXT // 2


def test_ctrl_c_keeps_what_was_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Talk(folder, max_new_tokens=8)
    forward, calls = talk.model.forward, []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return forward(*args, **kwargs)

    monkeypatch.setattr(talk.model, "forward", interrupted)
    out = io.StringIO()
    partial = talk.say("sky?", out)
    monkeypatch.undo()
    whole = by_hand(talk, talk.ids([{"role": "user", "content": "sky?"}]), 8)
    assert whole.startswith(partial) and out.getvalue().endswith("\n")
    assert len(talk.messages) in (0, 2)


def test_sampling_repeats_with_its_seed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for seed in (1, 1, 2):
        piped(monkeypatch, "sky?\n")
        chat(folder, temperature=1.5, max_new_tokens=10, seed=seed)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


def test_control_characters_do_not_reach_the_terminal() -> None:
    out = io.StringIO()
    voice = Voice(tiny_tokenizer(), out)
    voice.on_finalized_text("a\x1b[31m\x07b\n", stream_end=True)
    assert out.getvalue() == "a[31mb\n\n"


def test_an_untaught_model_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    piped(monkeypatch, "")
    chat(tiny_folder(tmp_path))
    assert "not fine-tuned" in capsys.readouterr().err


def test_a_system_message_without_room_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="system message"):
        Talk(folder, system="zx" * CONTEXT)


def test_no_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no chat template"):
        Talk(tiny_folder(tmp_path, template=None))
