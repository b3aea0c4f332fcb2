"""Completions of the same prompt stand together, whoever wrote them and in whichever file."""

from __future__ import annotations

from typing import Any

from llmkit.report.samples import AT_A_STEP, LONGEST, Answer, side_by_side, spoken, while_trained

USER = [{"role": "user", "content": "Who is Ada?"}]


def row(model: str, said: Any, **more: Any) -> dict[str, Any]:
    return {"model": model, "task": "facts", "prompt": USER, "completion": said, **more}


def test_models_meet_at_a_prompt() -> None:
    scores = {"ended": 1.0, "accuracy": 0.0}
    rows = [
        row("sft", "a baker", answer="a poet", scores=scores),
        row("ppo", "a poet", scores={"accuracy": 1}),
        row("sft", "a baker", scores=scores),
        {"prompt": "Once", "completion": " upon", "model": "sft (generate)"},
        {"prompt": "no completion"},
    ]
    tasks = side_by_side(rows)
    assert list(tasks) == ["facts", ""]
    (asked,) = tasks["facts"]
    assert (asked.prompt, asked.wanted) == ("Who is Ada?", "a poet")
    assert asked.answers == {
        "sft": [Answer("a baker", "accuracy", 0.0)],
        "ppo": [Answer("a poet", "accuracy", 1.0)],
    }
    assert tasks[""][0].answers == {"sft (generate)": [Answer(" upon")]}


def test_several_samples_of_a_model_are_kept() -> None:
    asked = side_by_side([row("sft", "one"), row("sft", "two")])["facts"][0]
    assert [answer.text for answer in asked.answers["sft"]] == ["one", "two"]


def test_long_prompts_that_begin_alike_are_two() -> None:
    rows = [{"prompt": "x" * LONGEST + end, "completion": end} for end in "ab"]
    prompts = side_by_side(rows)[""]
    assert [len(asked.prompt) for asked in prompts] == [LONGEST + 2] * 2


def test_messages_are_written_out() -> None:
    assert spoken(USER) == "Who is Ada?"
    assert spoken([*USER, {"role": "assistant", "content": "A poet."}]) == (
        "user: Who is Ada?\nassistant: A poet."
    )
    assert spoken(None) == ""


def test_a_training_is_shown_at_its_first_middle_and_last_step() -> None:
    rows = [
        {"step": step, "prompt": USER, "completion": f"{number}", "reward": 0.5, "answer": "x"}
        for step in range(1, 10)
        for number in range(AT_A_STEP + 1)
    ]
    shown = while_trained([*rows, *rows[:3], {"step": 5}])
    assert [r["step"] for r in shown] == [1] * AT_A_STEP + [5] * AT_A_STEP + [9] * AT_A_STEP
    assert [r["completion"] for r in shown[:AT_A_STEP]] == ["0", "1", "2", "3"]
    assert shown[0]["prompt"] == "Who is Ada?" and shown[0]["figures"] == {"reward": "0.5"}
    parts = {"reward": 0.3, "rewards": {"judge": 0.1, "rule": 0.2, "odd": "x"}}
    shown = while_trained([rows[0] | parts, rows[1] | {"rewards": {"rule": 0.5}}])
    assert shown[0]["figures"] == {
        "reward": "0.3",
        "rewards/judge": "0.1",
        "rewards/rule": "0.2",
    }
    assert shown[1]["figures"] == {"reward": "0.5"}, "one part is the whole"
    assert [r["step"] for r in while_trained(rows[:2])] == [1, 1]
    assert while_trained([]) == []
