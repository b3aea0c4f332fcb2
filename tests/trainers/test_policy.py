"""What the stages that learn from rewards share: arguments, prompts that fit, faults of recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_policy import Ascii, tiny_stage

from llmkit.errors import InputError, UserError
from llmkit.rewards.function import FunctionReward
from llmkit.rewards.task import TaskReward
from llmkit.stage import Facts
from llmkit.tasks.bits_per_byte import BitsPerByteTask
from llmkit.tasks.task import Example
from llmkit.tasks.tinyworld_sums import TinyworldSums
from llmkit.trainers.policy import REFUSED, check_enough, fitting, row_of
from llmkit.trainers.task_policy import best_reward, trainable

GOOD = Facts(context_length=64, eos_token="<e>", pad_token="<p>", chat_template=True)
SUMS = TaskReward(task="tinyworld_sums")


@pytest.mark.parametrize(
    ("changes", "facts", "what"),
    [
        ({}, Facts(chat_template=False), "no chat template"),
        ({}, Facts(context_length=8), "args.max_completion_length: 8 new tokens leave no room"),
        ({"args": {"max_completion_length": 64}}, GOOD, "64 new tokens leave no room"),
        ({"args": {"max_completion_length": 0}}, GOOD, "max_completion_length: 0 is not positive"),
        ({"args": {"temperature": 0.0}}, GOOD, "args.temperature: 0.0 is not positive"),
        ({"args": {"num_iterations": 0}}, GOOD, "args.num_iterations: 0 is not positive"),
        ({"args": {"disable_dropout": False}}, GOOD, "the ratio of two policies would be noise"),
        ({"args": {"sync_ref_model": True}}, GOOD, "a moving one is in no checkpoint"),
        ({"args": {"reward_weights": [1.0]}}, GOOD, "its own `weight`"),
        ({"args": {"log_completions": True}}, GOOD, "logs/completions.jsonl"),
        ({"args": {"use_transformers_continuous_batching": True}}, GOOD, "llmkit's decoder"),
        ({"args": {"eval_strategy": "steps"}}, GOOD, "`evaluate` stage"),
        ({"args": {"save_only_model": True}}, GOOD, "could not go on in the same bytes"),
        (
            {"args": {"generation_kwargs": {"max_new_tokens": 9}}},
            GOOD,
            "args.generation_kwargs.max_new_tokens: has no place here; say args.max_completion",
        ),
        ({"patches": ["fused_head_loss"]}, GOOD, "TRL's trainer has its own"),
        ({"max_bad_rows": -1}, GOOD, "max_bad_rows: -1 is negative"),
        ({"rewards": (SUMS, SUMS)}, GOOD, "rewards[1]: tinyworld_sums stands there twice"),
        ({"tasks": ()}, GOOD, "tasks: is empty"),
        ({"num_prompts": 0}, GOOD, "num_prompts: 0 is not positive"),
        ({"tasks": (Ascii(), Ascii())}, GOOD, "tasks[1]: ascii stands there twice"),
        ({"tasks": (Ascii(models=["x"]),)}, GOOD, "`models` has no place here"),
        (
            {"tasks": (BitsPerByteTask(),), "args": {"max_completion_length": 4}},
            GOOD,
            "tasks[0]: bits_per_byte measures, and is no reward; take one of tinyworld_facts",
        ),
    ],
)
def test_problems_are_told_before_anything_runs(
    changes: dict[str, Any], facts: Facts, what: str
) -> None:
    problems = [str(p) for p in tiny_stage(**changes).problems({"base": facts})]
    assert len(problems) == 1 and what in problems[0], problems


def test_a_sound_stage_has_no_problem() -> None:
    stage = tiny_stage(args={"disable_dropout": True, "beta": 0.1}, rewards=(SUMS,))
    assert list(stage.problems({"base": GOOD})) == []
    assert stage.facts({"base": GOOD}) == GOOD


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_refused_arguments_are_arguments(kind: str) -> None:
    """A name that TRL gave up would be refused in vain."""
    from llmkit.fields import fields_of

    known = fields_of("trl.GRPOConfig")
    assert [name for name in REFUSED if name not in known] == []


def test_the_arguments_that_trl_gets(tmp_path: Path) -> None:
    args = tiny_stage()._arguments(tmp_path, 7, "grpo")
    assert args.max_completion_length == Ascii.max_new_tokens and args.seed == 7
    assert args.disable_dropout and not args.gradient_checkpointing and not args.bf16
    assert not args.use_vllm and args.logging_steps == 0.01
    longer = tiny_stage(args={"max_completion_length": 5, "logging_steps": 3})
    assert longer._arguments(tmp_path, 7, "grpo").max_completion_length == 5
    assert longer._arguments(tmp_path, 7, "grpo").logging_steps == 3


def test_configs_are_constructed_beforehand() -> None:
    tiny_stage().prepare("solve")
    with pytest.raises(UserError, match="^solve.args: GRPOConfig refuses it: .*num_generations"):
        tiny_stage(args={"num_generations": 3}).prepare("solve")
    with pytest.raises(UserError, match="^solve.args: RLOOConfig refuses it: .*num_generations"):
        tiny_stage("rloo", args={"num_generations": 3}).prepare("solve")
    with pytest.raises(UserError, match="^reward nowhere_at_all:x"):
        tiny_stage(rewards=(FunctionReward(function="nowhere_at_all:x"),)).prepare("solve")


def test_vllm_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="^solve.args.use_vllm: vllm is not installed; pip install"):
        tiny_stage(args={"use_vllm": True}).prepare("solve")


def test_a_row_holds_what_a_judge_must_know() -> None:
    example = Example([{"role": "user", "content": "?"}], "72", {"b": 1, "a": "x"})
    row = row_of(example, "sums")
    assert row["prompt"] == example.prompt and (row["answer"], row["task"]) == ("72", "sums")
    assert json.loads(row["details"]) == example.details


def test_prompts_that_leave_no_room() -> None:
    rows = [row_of(Example([], str(number))) for number in range(3)]
    ids = [[0] * 5, [0] * 9, [0] * 6]
    assert fitting(rows, ids, 9, 0, "grpo") == rows
    assert fitting(rows, ids, 6, 1, "grpo") == [rows[0], rows[2]]
    with pytest.raises(InputError, match=r"^grpo: 1 of 3 prompts are longer than the 6 .*has 9\)"):
        fitting(rows, ids, 6, 0, "grpo")
    with pytest.raises(InputError, match="3 of 3 prompts"):
        fitting(rows, ids, 4, 3, "grpo")


def test_prompts_that_do_not_fill_a_rollout(tmp_path: Path) -> None:
    args = tiny_stage()._arguments(tmp_path, 0, "grpo")  # 16 completions, 4 of each prompt
    rows = [row_of(Example([], ""))] * 4
    check_enough(rows, args, "grpo")
    with pytest.raises(UserError, match=r"^grpo: there are 3 prompts, and one rollout takes 4"):
        check_enough(rows[:3], args, "grpo")


def test_the_best_that_tasks_can_earn() -> None:
    assert best_reward([TinyworldSums()]) == 1.0
    assert best_reward([Ascii(), TinyworldSums()]) == 1.0
    assert {"tinyworld_sums", "tinyworld_answers", "digit_sums", "word_problems"} <= set(
        trainable()
    )
    assert not {"replies", "bits_per_byte", "tinyworld_cloze"} & set(trainable())
