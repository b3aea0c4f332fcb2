"""Preference rows of every known form, and how broken ones are told."""

from __future__ import annotations

from typing import Any

import pytest

from llmkit.data.chat.preference_rows import Pair, conversation, pairs_of, transcript

ASKED = {"role": "user", "content": "sky?"}
BLUE = {"role": "assistant", "content": "blue"}
RED = {"role": "assistant", "content": "red"}
SYSTEM = {"role": "system", "content": "be brief"}
HUMAN = "\n\nHuman: sky?\n\nAssistant:"
PAIR = Pair([ASKED], "blue", "red")

FORMS = [
    {"prompt": "sky?", "chosen": "blue", "rejected": "red"},
    {"prompt": "sky?", "chosen": "blue", "rejected": "red", "source_index": 3, "metadata": {}},
    {"prompt": [ASKED], "chosen": [BLUE], "rejected": [RED]},
    {"prompt": "sky?", "chosen": [BLUE], "rejected": [RED]},
    {"chosen": [ASKED, BLUE], "rejected": [ASKED, RED], "score_chosen": 9.0},
    # UltraFeedback says the prompt twice
    {"prompt": "sky?\n", "chosen": [ASKED, BLUE], "rejected": [ASKED, RED], "messages": [ASKED]},
    {"chosen": f"{HUMAN} blue", "rejected": f"{HUMAN} red\n"},
    {"prompt": HUMAN, "chosen": " blue", "rejected": " red"},
    {"instruction": "sky?", "input": "", "chosen": "blue", "rejected": "red"},
    {"system": "", "question": "sky?", "chosen": "blue", "rejected": "red"},
    {
        "conversations": [{"from": "human", "value": "sky?"}],
        "chosen": {"from": "gpt", "value": "blue"},
        "rejected": {"from": "gpt", "value": "red"},
    },
]


@pytest.mark.parametrize("row", FORMS, ids=lambda row: "+".join(row))
def test_known_forms(row: dict[str, Any]) -> None:
    assert list(pairs_of(row)) == [PAIR]


def test_orcas_system_and_alpacas_input_are_part_of_the_prompt() -> None:
    orca = {"system": "be brief", "question": "sky?", "chosen": "blue", "rejected": "red"}
    assert next(pairs_of(orca)).prompt == [SYSTEM, ASKED]
    alpaca = {"instruction": "Add.", "input": "1, 2", "chosen": "3", "rejected": "4"}
    assert next(pairs_of(alpaca)).prompt == [{"role": "user", "content": "Add.\n\n1, 2"}]


def test_an_answer_may_run_out_of_tokens() -> None:
    row = {"prompt": "sky?", "chosen": "blue", "rejected": "bl", "rejected_ended": False}
    assert list(pairs_of(row)) == [Pair([ASKED], "blue", "bl", rejected_ended=False)]


def test_a_prompt_may_have_many_turns() -> None:
    before = [SYSTEM, ASKED, BLUE, {"role": "user", "content": "why?"}]
    row = {"chosen": [*before, BLUE], "rejected": [*before, RED]}
    assert list(pairs_of(row)) == [Pair(before, "blue", "red")]
    told = f"{HUMAN} blue\n\nstill blue\n\nHuman: Assistant: is a word\n\nAssistant: "
    assert next(pairs_of({"chosen": told + "yes", "rejected": told + "no"})).prompt == [
        ASKED,
        {"role": "assistant", "content": "blue\n\nstill blue"},
        {"role": "user", "content": "Assistant: is a word"},
    ]


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({}, "there are: none"),
    ({"prompt": "sky?", "completion": "blue", "label": True}, "there are: prompt, completion"),
    ({"chosen": "blue", "rejected": "red"}, "chosen: is text without roles"),
    ({"chosen": f"Well{HUMAN} blue", "rejected": "red"}, "chosen: is text without roles"),
    ({"chosen": f"{HUMAN} ", "rejected": f"{HUMAN} red"}, "chosen: message 2, .* is empty"),
    ({"chosen": f"{HUMAN} a", "rejected": HUMAN}, "rejected: message 2, .* is empty"),
    (
        {"chosen": f"{HUMAN} a\n\nAssistant: b", "rejected": f"{HUMAN} a"},
        "chosen: message 3 is the assistant's, where the user's",
    ),
    ({"prompt": "sky?", "chosen": "blue", "rejected": None}, "rejected: message 2 holds NoneType"),
    ({"prompt": "sky?", "chosen": "blue", "rejected": "blue"}, "are the same"),
    ({**FORMS[0], "rejected_ended": 0}, "rejected_ended holds 0"),
    ({"chosen": f"{HUMAN} a", "rejected": "\n\nHuman: sea?\n\nAssistant: b"}, "different prompts"),
    ({"chosen": [ASKED, BLUE], "rejected": [ASKED, BLUE, ASKED, RED]}, "different prompts"),
    ({"chosen": [BLUE], "rejected": [RED]}, "message 1 is the assistant's"),
    ({"chosen": [ASKED, {"content": "blue"}], "rejected": [ASKED, RED]}, "message 2 has no role"),
    ({"prompt": "sea?", "chosen": [ASKED, BLUE], "rejected": [ASKED, RED]}, "another prompt"),
    ({"prompt": "", "chosen": "blue", "rejected": "red"}, "message 1, the user's, is empty"),
]


@pytest.mark.parametrize(("row", "what"), BROKEN)
def test_broken_rows(row: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        list(pairs_of(row))


def test_a_conversation_may_be_unanswered() -> None:
    assert conversation({"chosen": HUMAN}, "chosen")[-1] == {"role": "assistant", "content": ""}


@pytest.mark.slow
def test_trl_finds_the_same_prompt() -> None:
    """The referee for the implicit form; it needs roles, which transcripts do not have."""
    from trl.data_utils import extract_prompt

    text = f"{HUMAN} grey\n\nHuman: and at noon?\n\nAssistant:"
    row = {"chosen": transcript(f"{text} blue"), "rejected": transcript(f"{text} red")}
    found = extract_prompt(row)
    pair = next(pairs_of(row))
    assert pair.prompt == found["prompt"]
    assert [pair.chosen] == [message["content"] for message in found["chosen"]]
    assert [pair.rejected] == [message["content"] for message in found["rejected"]]
