"""Prompts from rows of every form, from files and from tinyworld."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmkit.build import load
from llmkit.data.chat.prompts import (
    PROMPTS,
    PathPrompts,
    Prompt,
    TinyworldPrompts,
    gathered,
    prompts_of,
)
from llmkit.data.sources.readers import BadRows
from llmkit.errors import InputError

ASKED = {"role": "user", "content": "sky?"}
BLUE = {"role": "assistant", "content": "blue"}
HUMAN = "\n\nHuman: sky?\n\nAssistant:"
REAL = Path(__file__).resolve().parents[3] / "../shared/data"

FORMS: list[dict[str, Any]] = [
    {"prompt": "sky?"},
    {"prompt": [ASKED]},
    {"prompt": [ASKED, BLUE]},
    {"prompt": HUMAN},
    {"messages": [ASKED]},
    {"messages": [ASKED, BLUE]},
    {"conversations": [{"from": "human", "value": "sky?"}, {"from": "gpt", "value": "blue"}]},
    {"prompt": "sky?", "completion": "blue"},
    {"instruction": "sky?", "output": "blue"},
    {"question": "sky?"},
    {"chosen": f"{HUMAN} blue", "rejected": f"{HUMAN} red"},
    {"chosen": HUMAN, "rejected": f"{HUMAN} red"},  # nobody's answer is needed
    {"chosen": [ASKED, BLUE], "rejected": [ASKED]},
    {"prompt": {"text": "sky?", "lang": "en", "replies": [{"text": "blue", "lang": "en"}]}},
]


@pytest.mark.parametrize("row", FORMS, ids=lambda row: "+".join(row))
def test_known_forms(row: dict[str, Any]) -> None:
    assert list(prompts_of(row)) == [Prompt([ASKED])]


def test_a_right_answer_stands_beside_the_prompt() -> None:
    assert list(prompts_of({"prompt": "sky?", "answer": "blue"})) == [Prompt([ASKED], "blue")]


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"text": "sky"}, "no prompt in it .there are: text"),
    ({"prompt": ""}, "message 1, the user's, is empty"),
    ({"messages": []}, "holds no messages"),
    ({"messages": [BLUE]}, "holds no messages"),
    ({"messages": [ASKED, ASKED]}, "message 2 is the user's"),
    ({"messages": [{"role": "system", "content": "s"}]}, "nothing is asked"),
    ({"prompt": "1 + 1?", "answer": 2}, "'answer' holds int, not text"),
]


@pytest.mark.parametrize(("row", "what"), BROKEN)
def test_broken_rows(row: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        list(prompts_of(row))


def test_tables_name_classes_with_their_key() -> None:
    for key, target in PROMPTS.items():
        assert key in load(target).__dataclass_fields__


def test_files_and_bad_rows(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ({"prompt": "sky?"}, {"x": 1})))
    bad_rows = BadRows(1)
    assert PathPrompts(path=str(file)).prompts({}, {}, 0, bad_rows) == [Prompt([ASKED])]
    assert bad_rows.named[0].startswith("a.jsonl:2: no prompt in it")
    with pytest.raises(InputError, match="a.jsonl:2"):
        PathPrompts(path=str(file)).prompts({}, {}, 0, BadRows())
    (tmp_path / "b.jsonl").write_text("")
    with pytest.raises(InputError, match="path:b.jsonl: holds no prompt"):
        PathPrompts(path=str(tmp_path / "b.jsonl")).prompts({}, {}, 0, BadRows())


def test_tinyworld_is_the_worlds_own() -> None:
    source = TinyworldPrompts(tinyworld="prompts", num_prompts=30)
    world = {"seed": 1, "people": 20}
    found = gathered([source], world, {}, 5, BadRows())
    assert len(found) == 30 and found == source.prompts(world, {}, 5, BadRows())
    assert found != source.prompts(world, {}, 6, BadRows())
    assert {prompt.details["question"] for prompt in found} == {"facts", "unknown", "sums"}
    with pytest.raises(ValueError, match="num_prompts"):
        TinyworldPrompts(tinyworld="prompts", num_prompts=0)


@pytest.mark.skipif(not REAL.exists(), reason="no real data beside the project")
def test_real_rows_end_with_the_users_words() -> None:
    for name, count in (("splits/hh_harmless.jsonl", 1496), ("splits/oasst_tree.jsonl", 72)):
        found = PathPrompts(path=str(REAL / name)).prompts({}, {}, 0, BadRows(10))
        assert len(found) == count
        assert all(prompt.messages[-1]["role"] == "user" for prompt in found)
