"""Sources of conversations: slices, limits, weights, tinyworld, faults."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from llmkit.build import load
from llmkit.data.chat.conversations import (
    CONVERSATIONS,
    HELD_OUT,
    HubConversations,
    PathConversations,
    StageConversations,
    TinyworldConversations,
    gathered,
)
from llmkit.data.sources.readers import BadRows
from llmkit.errors import InputError


def chat(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"q{number}"}, {"role": "assistant", "content": "a"}]


def write(file: Path, count: int, start: int = 0) -> Path:
    rows = [json.dumps({"messages": chat(number)}) for number in range(start, start + count)]
    text = "\n".join(rows) + "\n"
    if file.suffix == ".gz":
        file.write_bytes(gzip.compress(text.encode()))
    else:
        file.write_text(text)
    return file


def numbers(chats: list[list[dict[str, str]]]) -> list[int]:
    return [int(messages[0]["content"][1:]) for messages in chats]


def read(source: Any, **inputs: Any) -> list[int]:
    return numbers(source.rows({}, inputs, 0, BadRows()))


def test_tables_name_classes_with_their_key() -> None:
    for table in (CONVERSATIONS, HELD_OUT):
        for key, target in table.items():
            assert key in load(target).__dataclass_fields__


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", range(10)),
        ("[:90%]", range(9)),
        ("[90%:]", [9]),
        ("train[2:4]", [2, 3]),
        ("[:3]", range(3)),
        ("[25%:75%]", range(2, 8)),  # 2.5 and 7.5, rounded to even
    ],
)
def test_slices(tmp_path: Path, split: str, expected: Any) -> None:
    file = write(tmp_path / "a.jsonl", 10)
    assert read(PathConversations(path=str(file), split=split)) == list(expected)


def test_a_folder_stands_for_its_files_in_order(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", 2, 10)
    write(tmp_path / "a.jsonl.gz", 2)
    (tmp_path / "README.md").write_text("no data")
    source = PathConversations(path=str(tmp_path), limit=3)
    assert read(source) == [0, 1, 10]
    assert [file.name for file in source.files()] == ["a.jsonl.gz", "b.jsonl"]


def test_faults_of_a_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read(PathConversations(path=str(tmp_path / "none.jsonl")))
    (tmp_path / "a.csv").write_text("q,a\n")
    with pytest.raises(InputError, match="no file with one of .jsonl"):
        read(PathConversations(path=str(tmp_path)))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(InputError, match="holds no conversation"):
        read(PathConversations(path=str(tmp_path / "empty.jsonl")))


@pytest.mark.parametrize(
    "options",
    [{"limit": 0}, {"weight": 0.0}, {"weight": -1.0}, {"split": "[a:b]"}, {"split": "test"}],
)
def test_values_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        PathConversations(path="x", **options)


def test_a_stage_gives_its_completions(tmp_path: Path) -> None:
    row = {"prompt": chat(3)[:1], "completion": "a", "ended": True, "sample": 0}
    (tmp_path / "completions.jsonl").write_text(json.dumps(row) + "\n")
    assert read(StageConversations(stage="ask"), ask=tmp_path) == [3]


@pytest.mark.filterwarnings("ignore")
def test_a_hub_data_set_that_cannot_be_had_is_named() -> None:
    with pytest.raises(InputError, match="hub:nobody/nothing"):
        read(HubConversations(hub="nobody/nothing"))
    hub = HubConversations(hub="a/b", revision="c0ffee")
    assert list(hub.hub_data()) == [("a/b", "c0ffee")]


def test_tinyworld_is_the_worlds_own() -> None:
    world = {"seed": 1, "people": 20}
    source = TinyworldConversations(tinyworld="conversations", num_conversations=30)
    chats = source.rows(world, {}, 5, BadRows())
    assert len(chats) == 30 and chats == source.rows(world, {}, 5, BadRows())
    assert chats != source.rows(world, {}, 6, BadRows())
    held_out = TinyworldConversations(
        tinyworld="conversations", num_conversations=30, split="heldout"
    )
    asked = {messages[0]["content"] for messages in chats}
    for messages in held_out.rows(world, {}, 5, BadRows()):
        small_talk = len(messages[0]["content"].split()) < 6
        assert small_talk or messages[0]["content"] not in asked


def test_gathered_counts_bad_rows_over_all_sources(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        file = write(tmp_path / name, 2)
        file.write_text(file.read_text() + "nonsense\n")
    sources = [PathConversations(path=str(tmp_path / name)) for name in ("a.jsonl", "b.jsonl")]
    assert len(gathered(sources, {}, {}, 0, BadRows(2))) == 4
    with pytest.raises(InputError, match="b.jsonl:3"):
        gathered(sources, {}, {}, 0, BadRows(1))
