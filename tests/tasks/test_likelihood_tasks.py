"""Tasks over texts, and replies: what they show a model, against the texts themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_chat import tiny_tokenizer
from tiny_training import make_shards

from llmkit.data.chat.conversations import PathConversations
from llmkit.errors import InputError
from llmkit.tasks.bits_per_byte import BitsPerByteTask
from llmkit.tasks.conversation_loss import ConversationLoss
from llmkit.tasks.replies import Replies, word_f1
from llmkit.tasks.task import Completion


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture
def source(tmp_path: Path) -> PathConversations:
    file = tmp_path / "chats.jsonl"
    rows = [("sky?", "blue"), ("who bakes?", "Anna é"), ("sea?", "blue too")]
    file.write_text("".join(json.dumps({"prompt": q, "completion": a}) + "\n" for q, a in rows))
    return PathConversations(path=str(file))


def test_documents_are_scored_whole(tokenizer: Any, tmp_path: Path) -> None:
    make_shards(tmp_path, tokenizer, documents=40)
    passages = list(BitsPerByteTask(limit=3).passages(tokenizer, {}, 0, tmp_path))
    assert len(passages) == 3
    for passage in passages:
        eos = tokenizer.eos_token_id
        assert passage.ids[0] == passage.ids[-1] == eos and eos not in passage.ids[1:-1]
        assert list(passage.scored) == [0] + [1] * (len(passage.ids) - 1)
        assert passage.num_bytes == len(tokenizer.decode(passage.ids[1:-1]).encode())
    entry = json.loads((tmp_path / "index.json").read_text())["splits"]["validation"]
    every = list(BitsPerByteTask().passages(tokenizer, {}, 0, tmp_path))
    assert sum(passage.num_bytes for passage in every) == entry["bytes"]


def test_shards_of_another_tokenizer_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    make_shards(tmp_path, tokenizer)
    other = tiny_tokenizer()
    other.add_tokens(["another"])
    with pytest.raises(InputError, match="tokenizer of 312 ids, and this model's has 313"):
        list(BitsPerByteTask().passages(other, {}, 0, tmp_path))
    with pytest.raises(InputError, match="no shards"):
        list(BitsPerByteTask().passages(tokenizer, {}, 0, None))


def test_conversation_loss_scores_the_assistant(tokenizer: Any, source: PathConversations) -> None:
    passages = list(ConversationLoss(dataset=[source], limit=2).passages(tokenizer, {}, 0, None))
    assert len(passages) == 2
    spoken = [t for t, s in zip(passages[1].ids, passages[1].scored, strict=True) if s]
    assert tokenizer.decode(spoken) == "Anna é<|end|>"
    assert passages[1].num_bytes == 7


def test_replies_ask_for_the_last_answer(source: PathConversations) -> None:
    task = Replies(dataset=[source], limit=2)
    first, second = task.examples({}, 0)
    assert first.prompt == [{"role": "user", "content": "sky?"}] and second.answer == "Anna é"
    assert task.score(first, Completion("Blue!", True)) == {"ended": 1.0, "word_f1": 1.0}
    assert task.score(first, Completion("", False)) == {"ended": 0.0, "word_f1": 0.0}


def test_word_f1_by_hand() -> None:
    assert word_f1("the blue sky", "sky is blue") == pytest.approx(2 / 3)
    assert word_f1("a a a", "a") == pytest.approx(0.5)  # precision 1/3, recall 1


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="limit"):
        BitsPerByteTask(limit=0)


def test_bad_rows_are_an_error_unless_allowed(tokenizer: Any, source: PathConversations) -> None:
    with Path(source.path).open("a") as file:
        file.write('{"prompt": "sea?", "completion": ""}\n')
    with pytest.raises(InputError, match="chats.jsonl:4"):
        list(ConversationLoss(dataset=[source]).passages(tokenizer, {}, 0, None))
    allowed = ConversationLoss(dataset=[source], max_bad_rows=1)
    assert len(list(allowed.passages(tokenizer, {}, 0, None))) == 3
    assert len(list(Replies(dataset=[source], max_bad_rows=1).examples({}, 0))) == 3
    with pytest.raises(ValueError, match="max_bad_rows: -1 is negative"):
        Replies(dataset=[source], max_bad_rows=-1)


def test_ids_that_are_not_taken_count_as_rows(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    from llmkit.data.tokens.bpe import num_ids
    from llmkit.trainers.starting import from_tokenizer

    words = models.WordLevel({"a": 0, "<e>": 9}, unk_token="a")
    sparse = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), eos_token="<e>")
    assert len(sparse) == 2 and num_ids(sparse) == 10
    assert from_tokenizer(sparse)["vocab_size"] == 10
