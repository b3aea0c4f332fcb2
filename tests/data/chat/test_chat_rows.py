"""Rows of every known form, and how broken ones are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmkit.data.chat.chat_rows import checked, conversations_of, read_file
from llmkit.data.sources.readers import BadRows
from llmkit.errors import InputError

ASKED = {"role": "user", "content": "sky?"}
SAID = {"role": "assistant", "content": "blue"}
REAL_TREES = Path(__file__).resolve().parents[3] / "../shared/data/splits/oasst_tree.jsonl"

FORMS = [
    {"messages": [ASKED, SAID]},
    {"messages": [{**ASKED, "name": "me"}, SAID], "id": 7},
    {"conversations": [{"from": "human", "value": "sky?"}, {"from": "gpt", "value": "blue"}]},
    {"prompt": "sky?", "completion": "blue"},
    {"prompt": "sky?", "response": "blue"},
    {"prompt": [ASKED], "completion": [SAID]},
    {"instruction": "sky?", "output": "blue"},
    {"instruction": "sky?", "input": "", "output": "blue"},
    {"instruction": "sky?", "context": "", "response": "blue", "category": "open_qa"},
]


@pytest.mark.parametrize("row", FORMS, ids=lambda row: "+".join(row))
def test_known_forms(row: dict[str, Any]) -> None:
    assert list(conversations_of(row)) == [[ASKED, SAID]]


def test_alpacas_input_follows_the_instruction() -> None:
    row = {"instruction": "Add.", "input": "1, 2", "output": "3"}
    assert next(conversations_of(row))[0]["content"] == "Add.\n\n1, 2"


BROKEN = [
    ({"text": "sky"}, "there are: text; known: messages"),
    ({}, "there are: none"),
    ({"messages": "sky"}, "holds str, not a list"),
    ({"messages": []}, "holds no messages"),
    ({"messages": [ASKED]}, "ends with the user's message"),
    ({"messages": [SAID, ASKED]}, "message 1 is the assistant's, where the user's"),
    ({"messages": [ASKED, ASKED, SAID]}, "message 2 is the user's, where the assistant's"),
    ({"messages": [ASKED, {"content": "blue"}]}, "message 2 has no role"),
    ({"messages": [ASKED, {"role": "bot", "content": "b"}]}, "message 2 has role 'bot'"),
    ({"messages": [ASKED, {"role": "assistant", "content": " \n"}]}, "message 2, .* is empty"),
    ({"messages": [ASKED, {"role": "assistant", "content": None}]}, "holds NoneType, not text"),
    ({"messages": [ASKED, "blue"]}, "message 2 is str"),
    ({"messages": [ASKED, {"role": "assistant", "content": "\ud800"}]}, "lone surrogate"),
    ({"messages": [{"role": "system", "content": "s"}, SAID]}, "message 2 is the assistant's"),
    ({"prompt": "sky?", "completion": ""}, "message 2, .* is empty"),
    ({"prompt": 3, "completion": "blue"}, "message 1 holds int"),
]


@pytest.mark.parametrize(("row", "what"), BROKEN)
def test_broken_rows(row: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        list(conversations_of(row))


def test_unanswered_messages() -> None:
    assert checked([ASKED, SAID, ASKED], answered=False)[-1] == ASKED
    with pytest.raises(ValueError, match="nothing is asked"):
        checked([ASKED, SAID], answered=False)


def node(text: str, replies: list[Any] = (), **more: Any) -> dict[str, Any]:  # type: ignore[assignment]
    return {"text": text, "lang": "en", "replies": list(replies), **more}


def texts(row: dict[str, Any]) -> list[list[str]]:
    return [[message["content"] for message in chat] for chat in conversations_of(row)]


def test_trees_give_their_best_threads() -> None:
    tree = node(
        "Q",
        [
            node("second", rank=1),
            node(
                "best",
                [node("Q2", [node("A2", rank=None)]), node("Q3", []), node("Q4", [node("A4")])],
                rank=0,
            ),
            node("unranked", [node("Q9", [node("A9")])], rank=None),
            node("by a model", rank=-1, synthetic=True),
            node("deleted", rank=-1, deleted=True),
            node("turned down", rank=-1, review_result=False),
            node("nicht englisch", rank=-1, lang="de"),
        ],
    )
    assert texts({"prompt": tree}) == [["Q", "best", "Q2", "A2"], ["Q", "best", "Q4", "A4"]]


def test_a_thread_ends_with_an_answer() -> None:
    assert texts({"prompt": node("Q", [node("A", [node("Q2")])])}) == [["Q", "A"]]


@pytest.mark.parametrize("more", [{"lang": "de"}, {"synthetic": True}, {"deleted": True}])
def test_unusable_trees_have_no_thread(more: dict[str, Any]) -> None:
    assert texts({"prompt": node("Q", [node("A")]) | more}) == []


def lines(*rows: Any) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def test_bad_rows_are_named_by_line(tmp_path: Path) -> None:
    file = tmp_path / "chats.jsonl"
    file.write_text(lines(FORMS[0], "", "{cut", {"messages": [ASKED]}, [1], FORMS[3]))
    with pytest.raises(InputError, match=r"chats.jsonl:3: not JSON.*max_bad_rows \(now 0\)"):
        list(read_file(file, BadRows()))
    bad_rows = BadRows(allowed=3)
    assert list(read_file(file, bad_rows)) == [[ASKED, SAID]] * 2
    assert bad_rows.count == 3
    assert [name.split(":")[1] for name in bad_rows.named] == ["3", "4", "5"]


def test_parquet_equals_json(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([FORMS[0], FORMS[0]]), tmp_path / "a.parquet")
    assert list(read_file(tmp_path / "a.parquet", BadRows())) == [[ASKED, SAID]] * 2
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="b.parquet: cannot be read"):
        list(read_file(tmp_path / "b.parquet", BadRows()))


def real_threads() -> Iterator[list[dict[str, str]]]:
    yield from read_file(REAL_TREES, BadRows())


@pytest.mark.skipif(not REAL_TREES.exists(), reason="no real data beside the project")
def test_real_human_trees() -> None:
    chats = list(real_threads())
    lines_of_file = REAL_TREES.read_text(encoding="utf-8").splitlines()
    trees = [json.loads(line)["prompt"] for line in lines_of_file]
    human = [tree for tree in trees if not tree["synthetic"]]
    assert {chat[0]["content"] for chat in chats} <= {tree["text"] for tree in human}
    assert len(chats) >= len(human) and max(map(len, chats)) >= 4
    for tree in human:  # the first answer is the one that people ranked best
        best = [r["text"] for r in tree["replies"] if r.get("rank") == 0 and not r["synthetic"]]
        first = {chat[1]["content"] for chat in chats if chat[0]["content"] == tree["text"]}
        assert not best or first <= set(best)
