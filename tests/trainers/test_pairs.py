"""Rows of pairs against the chat template; which pairs are held out; the gates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_chat import TEMPLATE, ids_by_hand, tiny_tokenizer

from llmkit.data.chat.preferences import Pair
from llmkit.errors import GateError, InputError
from llmkit.stage import Context
from llmkit.trainers.pairs import (
    check_sides,
    divided,
    divided_rows,
    gate_rows,
    tokenized,
    unseen,
    whole_rows,
)


def pair(asked: str, chosen: str, rejected: str, **more: Any) -> Pair:
    return Pair([{"role": "user", "content": asked}], chosen, rejected, **more)


SYSTEM = [
    {"role": "system", "content": "be <|end|> kind"},
    {"role": "user", "content": "sea?"},
    {"role": "assistant", "content": "what of it"},
    {"role": "user", "content": "<|assistant|>"},
]
PAIRS = [
    pair("sky?", "blue", "The sky is"),
    pair("bread?", "Anna bakes the bread", "Anna bakes", rejected_ended=False),
    Pair(SYSTEM, "it is blue too", "é 海"),
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


def test_rows_are_what_the_template_renders(tokenizer: Any) -> None:
    rows = tokenized(tokenizer, PAIRS, 64, "rows")
    assert rows.pairs == PAIRS and rows.truncated == rows.left_out == 0
    whole, apart = whole_rows(rows), divided_rows(rows)
    for index, made in enumerate(PAIRS):
        for side in ("chosen", "rejected"):
            answer = {"role": "assistant", "content": getattr(made, side)}
            expected = ids_by_hand(tokenizer, [*made.prompt, answer])
            if side == "rejected" and not made.rejected_ended:
                assert expected.pop() == tokenizer.convert_tokens_to_ids("<|end|>")
            assert whole[index][f"{side}_ids"] == expected
            assert apart[index]["prompt_ids"] + apart[index][f"{side}_ids"] == expected
        assert apart[index]["prompt_ids"] == ids_by_hand(tokenizer, made.prompt, asks=True)
    assert rows.tokens == sum(len(r["chosen_ids"]) + len(r["rejected_ids"]) for r in whole)


def test_an_unfinished_answer_has_no_end_of_turn(tokenizer: Any) -> None:
    rows = divided_rows(tokenized(tokenizer, PAIRS, 64, "rows"))
    said = [
        (tokenizer.decode(row["chosen_ids"]), tokenizer.decode(row["rejected_ids"])) for row in rows
    ]
    assert said == [
        ("blue<|end|>", "The sky is<|end|>"),
        ("Anna bakes the bread<|end|>", "Anna bakes"),
        ("it is blue too<|end|>", "é 海<|end|>"),
    ]


def test_what_is_too_long_loses_the_beginning_of_its_prompt(tokenizer: Any) -> None:
    pairs = [pair("qz" * 20, "blue", "z" * 10), pair("q", "blue", "z" * 30), PAIRS[0]]
    full = tokenized(tokenizer, pairs, 64, "rows")
    rows = tokenized(tokenizer, pairs, 24, "rows")
    assert rows.truncated == 1 and rows.left_out == 1 and rows.pairs == [pairs[0], pairs[2]]
    cut, whole = divided_rows(rows), divided_rows(full)
    assert cut[1] == whole[2]
    for side in ("chosen_ids", "rejected_ids"):
        assert cut[0][side] == whole[0][side]
    kept = 24 - len(whole[0]["rejected_ids"])
    assert cut[0]["prompt_ids"] == whole[0]["prompt_ids"][-kept:]
    longest = len(whole[1]["rejected_ids"])
    assert tokenized(tokenizer, pairs[1:2], longest, "rows").left_out == 1
    barely = divided_rows(tokenized(tokenizer, pairs[1:2], longest + 1, "rows"))
    assert barely[0]["prompt_ids"] == whole[1]["prompt_ids"][-1:]


def test_a_prompt_is_never_on_both_sides() -> None:
    pairs = [pair(f"{number % 50}?", f"a{number}", "b") for number in range(200)]
    train, held_out = divided(pairs, 0.3)
    sides = [{str(made.prompt) for made in side} for side in (train, held_out)]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 50
    assert len(held_out) == 4 * len(sides[1]) and 5 <= len(sides[1]) <= 25
    # More pairs, in another order, divide the same prompts in the same way.
    more = [pair("new?", "a", "b"), *reversed(pairs)]
    assert {str(made.prompt) for made in divided(more, 0.3)[1]} - {str(more[0].prompt)} == sides[1]
    # A larger share holds out what the smaller one does, and more.
    assert sides[1] < {str(made.prompt) for made in divided(pairs, 0.6)[1]}


def test_a_held_out_prompt_that_is_trained_on_is_left_out() -> None:
    train = [pair("sky?", "blue", "red")]
    held_out = [pair("sky?", "it is blue", "it is red"), pair("sea?", "blue", "red")]
    assert unseen(held_out, train) == ([held_out[1]], 1)


def test_too_few_pairs_are_an_error() -> None:
    with pytest.raises(InputError, match=r"reward\.dataset: no pair is left to train on"):
        check_sides([], PAIRS, "reward")
    with pytest.raises(InputError, match=r"reward\.dataset: 1 pairs are held out"):
        check_sides(PAIRS, PAIRS[:1], "reward")


def gates(tokenizer: Any, out: Path, length: int = 64, allowed: int = 0) -> list[str]:
    context = Context(name="reward", out=out, gates="warn")
    train, held_out = (tokenized(tokenizer, PAIRS, length, "rows") for _ in range(2))
    gate_rows(context, tokenizer, train, held_out, allowed)
    return [gate["gate"] for gate in context.gate_results if gate["passed"] is not True]


def test_gates(tokenizer: Any, tmp_path: Path) -> None:
    assert gates(tokenizer, tmp_path) == []
    assert gates(tokenizer, tmp_path, length=7) == ["answers_fit"]
    assert gates(tokenizer, tmp_path, length=7, allowed=2) == []
    with pytest.raises(InputError, match="no pair is left to train on"):
        gates(tokenizer, tmp_path, length=1)
    wrong = tiny_tokenizer(TEMPLATE.replace('{{- "<|assistant|>" -}}\n{%- endif', ":{%- endif"))
    assert gates(wrong, tmp_path) == ["same_template"]
    with pytest.raises(GateError, match=r"answers_fit.*measured 1.*max_bad_rows"):
        rows = tokenized(tokenizer, PAIRS, 7, "rows")
        context = Context(name="reward", out=tmp_path)
        gate_rows(context, tokenizer, rows, tokenized(tokenizer, PAIRS, 64, "rows"), 0)
