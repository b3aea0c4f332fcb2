"""The texts on either side of the overlap: what examples say, and what models were trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_chat import tiny_tokenizer
from tiny_training import WORDS, make_shards

from llmkit.data.chat.conversations import PathConversations
from llmkit.data.tokens.shards import TokenStream
from llmkit.tasks.bits_per_byte import BitsPerByteTask
from llmkit.tasks.conversation_loss import ConversationLoss
from llmkit.tasks.task import Example
from llmkit.tasks.tinyworld_facts import TinyworldFacts
from llmkit.tasks.training_text import (
    TrainingText,
    documents,
    maker_of,
    overlaps,
    pieces,
    spoken,
    texts_of,
)

ANSWER = "The sky over the town is blue and the sea is blue too."


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_shards(folder / "shards", tiny_tokenizer(), documents=40)
    row = json.dumps({"prompt": "What is the sky <|end|>?", "completion": ANSWER}) + "\n"
    (folder / "chats.jsonl").write_text(row * 2 + "broken\n", encoding="utf-8")
    return folder


def training(inputs: Path, chats: bool = False) -> TrainingText:
    sources = [PathConversations(path=str(inputs / "chats.jsonl"))] if chats else []
    return TrainingText(
        shards=inputs / "shards",
        conversations=sources,
        inputs={},
        world={"people": 20, "names": 16},
        seed=0,
    )


def test_examples_are_told_without_their_system_message() -> None:
    assert spoken(Example("Max Jensen lives in", "Redfield")) == ["Max Jensen lives in", "Redfield"]
    chat = [{"role": r, "content": c} for r, c in (("system", "Be kind."), ("user", "Hello."))]
    assert spoken(Example(chat, "Hi.")) == ["Hello.", "Hi."]


def test_ids_are_cut_at_special_ones() -> None:
    assert pieces([9, 1, 2, 9, 9, 3, 9], {9}) == [[1, 2], [3]]
    assert pieces([], {9}) == []


def test_training_documents_come_back_as_they_were(inputs: Path) -> None:
    tokenizer = tiny_tokenizer()
    stream = TokenStream(inputs / "shards", "train")
    texts = list(documents(inputs / "shards", tokenizer, "test"))
    assert len(texts) == stream.documents == 36
    assert sum(len(text.encode()) for text in texts) == stream.bytes
    assert maker_of(inputs / "shards", [tokenizer]) is tokenizer
    other = tiny_tokenizer()
    other.add_special_tokens({"additional_special_tokens": ["<|tool|>"]})
    assert maker_of(inputs / "shards", [other]) is None


def test_conversations_are_read_message_by_message(inputs: Path) -> None:
    read = list(training(inputs, chats=True).texts(None, "test"))
    assert read == ["What is the sky <|end|>?", ANSWER] * 2  # a broken row is no text


def test_validation_documents_are_not_in_the_training_text(inputs: Path) -> None:
    tokenizer, text = tiny_tokenizer(), training(inputs)
    shown = texts_of(BitsPerByteTask(), tokenizer, text)
    assert len(shown) == 4 and all(len(texts) == 1 for texts in shown)
    assert {word for texts in shown for word in texts[0].split()} <= set(WORDS)
    both, _ = overlaps({"task": shown}, text.texts(tokenizer, "test"))
    assert both["task"].judged == 4 and both["task"].overlapping == []
    train = list(documents(inputs / "shards", tokenizer, "test"))
    found, record = overlaps({"task": [*shown, [train[7]]]}, text.texts(tokenizer, "test"))
    assert found["task"].overlapping == [4]
    assert record["task"] == {"share": 0.2, "overlapping": 1, "n": 5, "examples": [[train[7]]]}


def test_conversations_shown_are_cut_at_their_turns(inputs: Path, tmp_path: Path) -> None:
    row = json.dumps({"prompt": "What is the sky <|end|>?", "completion": ANSWER}) + "\n"
    (tmp_path / "held_out.jsonl").write_text(row * 2, encoding="utf-8")
    task = ConversationLoss(dataset=[PathConversations(path=str(tmp_path / "held_out.jsonl"))])
    shown = texts_of(task, tiny_tokenizer(), training(inputs))
    # A special token that a user typed is text, and stays whole.
    assert shown == [["What is the sky <|end|>?", ANSWER]] * 2


def test_questions_come_with_their_answers(inputs: Path) -> None:
    task = TinyworldFacts(limit=3)
    examples = list(task.examples({"people": 20, "names": 16}, 0))
    shown = texts_of(task, tiny_tokenizer(), training(inputs))
    assert shown == [[e.prompt[0]["content"], e.answer] for e in examples]  # type: ignore[index]
