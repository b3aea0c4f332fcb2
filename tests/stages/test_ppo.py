"""`ppo` end to end on a tiny model: artefacts, gates, resume, faults of a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_ppo import (
    context_in,
    make_inputs,  # noqa: F401 - the fixture `inputs` calls it
    tiny_stage,
)
from tiny_training import artefacts
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification

from llmkit.data.chat.prompts import PathPrompts
from llmkit.errors import GateError, InputError, UserError
from llmkit.stage import Facts

# peft reads a name that transformers 5.23 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

PLAIN_FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "value_model/config.json",
    "value_model/model.safetensors",
}


@pytest.fixture(scope="module")
def finished(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """An uninterrupted training: its folder, figures and context."""
    out = tmp_path_factory.mktemp("finished")
    context = context_in(inputs, out)
    return out, tiny_stage(inputs).run(context), context


def test_a_plain_folder_with_its_value_model(finished: tuple[Path, Any, Any]) -> None:
    out, figures, _ = finished
    assert set(artefacts(out)) == PLAIN_FILES
    ids = torch.tensor([[5, 9, 20, 33]])
    policy = AutoModelForCausalLM.from_pretrained(out)
    value = AutoModelForTokenClassification.from_pretrained(out, subfolder="value_model")
    assert policy(ids).logits.shape == (1, 4, policy.config.vocab_size)
    assert value(ids).logits.shape == (1, 4, 1) and value(ids).logits.abs().max() > 0
    wanted = {"prompts", "reward_before", "reward_after", "reward_gain", "kl", "kl_coef", "steps"}
    assert wanted | {"explained_variance", "ended", "generation_seconds"} <= set(figures)
    assert figures["prompts"] == 32 and figures["steps"] == 20
    gain = figures["reward_after"] - figures["reward_before"]
    assert figures["reward_gain"] == pytest.approx(gain)
    json.dumps(figures)


def test_gains_of_each_reward_add_up_to_that_of_all(finished: tuple[Path, Any, Any]) -> None:
    _, figures, _ = finished
    parts = figures["reward_gain/vowels"] + 0.5 * figures["reward_gain/scorer"]
    assert figures["reward_gain"] == pytest.approx(parts, abs=1e-5)
    for name in ("reward_gain", "reward_gain/vowels", "reward_gain/scorer"):
        assert figures[f"{name}_low"] < figures[name] < figures[f"{name}_high"]


def test_what_is_measured_may_be_held_out(inputs: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text('{"prompt": "sea?"}\n{"prompt": "who?"}\n{"prompt": "b"}\n')
    stage = tiny_stage(
        inputs, eval_dataset=(PathPrompts(path=str(held_out)),), args={"max_steps": 4}
    )
    figures = stage.run(context_in(inputs, tmp_path / "out"))
    assert figures["prompts"] == 32
    assert (figures["ended"] * 3) % 1 == pytest.approx(0, abs=1e-9)  # a share of three answers
    assert held_out in list(stage.files())
    empty = tiny_stage(inputs, eval_dataset=())
    found = [str(problem) for problem in empty.problems({"base": Facts()})]
    assert any(text.startswith("eval_dataset: is empty") for text in found)


def test_its_gates(finished: tuple[Path, Any, Any]) -> None:
    gates = [(g["gate"], g["passed"]) for g in finished[2].gate_results]
    assert gates == [
        ("reward_above_chance", None),  # nothing is recorded of the reward model
        ("finite_loss", True),
        ("first_ratio", True),
        ("kl_within", True),
    ]
    assert finished[2].gate_results[2]["measured"] == 0.0
    assert finished[2].gate_results[3]["bound"] == "at most 10.0 nats a completion"


def test_a_line_of_the_curve_for_each_rollout(finished: tuple[Path, Any, Any]) -> None:
    lines = (finished[0] / "logs/train.jsonl").read_text().splitlines()
    curve = [row for row in map(json.loads, lines) if "objective/kl" in row]
    assert [row["step"] for row in curve] == [4, 8, 12, 16, 20]
    assert curve[0]["objective/kl"] == 0.0
    for row in curve:
        mixed = row["rewards/vowels/mean"] + 0.5 * row["rewards/scorer/mean"]
        assert row["objective/scores"] == pytest.approx(mixed, abs=1e-5)
    shown = (finished[0] / "logs/completions.jsonl").read_text().splitlines()
    assert {"step", "prompt", "completion", "reward", "rewards"} == set(json.loads(shown[0]))


@pytest.mark.parametrize("stopped_at", [7, 20])
def test_a_broken_off_training_ends_in_the_same_bytes(
    inputs: Path,
    finished: tuple[Path, Any, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stopped_at: int,
) -> None:
    """Inside a rollout, whose first steps are then taken again; and after the last step."""
    from llmkit.trainers.display import ShowProgress

    inner = ShowProgress.on_log if stopped_at == 20 else ShowProgress.on_step_end

    def power_cut(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        inner(self, args, state, control, **kwargs)
        if state.global_step == stopped_at and (stopped_at != 20 or "train_loss" in kwargs["logs"]):
            raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(ShowProgress, inner.__name__, power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            tiny_stage(inputs).run(context_in(inputs, tmp_path))
    figures = tiny_stage(inputs).run(context_in(inputs, tmp_path))
    assert artefacts(tmp_path) == artefacts(finished[0])
    for name in ("reward_before", "reward_after", "kl", "tokens", "explained_variance"):
        assert figures[name] == finished[1][name], name


def test_an_adapter_and_the_two_merged(inputs: Path, tmp_path: Path) -> None:
    peft = {"r": 4, "target_modules": ["c_attn"]}
    stage = tiny_stage(inputs, peft=peft, args={"max_steps": 4, "learning_rate": 1e-2})
    stage.run(context_in(inputs, tmp_path))
    adapter = {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    assert set(artefacts(tmp_path)) == PLAIN_FILES | adapter
    ids = torch.tensor([[5, 9, 20, 33]])
    base = AutoModelForCausalLM.from_pretrained(inputs / "base")(ids).logits
    merged = AutoModelForCausalLM.from_pretrained(tmp_path)(ids).logits
    assert not torch.allclose(base, merged, atol=1e-4)


def test_the_value_model_may_begin_as_the_reward_model(inputs: Path, tmp_path: Path) -> None:
    args = {"max_steps": 4, "critic_learning_rate": 0.0}
    tiny_stage(inputs, value_model="reward", args=args).run(context_in(inputs, tmp_path))
    value = AutoModelForTokenClassification.from_pretrained(tmp_path / "value_model")
    from transformers import AutoModelForSequenceClassification

    reward = AutoModelForSequenceClassification.from_pretrained(inputs / "scorer")
    assert torch.equal(value.transformer.wte.weight, reward.transformer.wte.weight)
    assert torch.equal(value.classifier.weight, reward.score.weight)


def test_patches_are_lent_to_all_models(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmkit import patch

    lent, inner = [], patch.patched

    def patched(model: Any, names: Any) -> Any:
        lent.append((type(model).__name__, names))
        return inner(model, names)

    monkeypatch.setattr(patch, "patched", patched)
    context = context_in(inputs, tmp_path)
    tiny_stage(inputs, patches=["gelu"], args={"max_steps": 4}).run(context)
    assert lent == [("GPT2ForTokenClassification", ["gelu"]), ("GPT2LMHeadModel", ["gelu"])]
    line = json.loads((tmp_path / "logs/train.jsonl").read_text().splitlines()[0])
    assert line["objective/kl"] == 0.0


def record(folder: Path, passed: bool | None) -> None:
    gate = {"gate": "above_chance", "passed": passed, "measured": "accuracy 0.9"}
    (folder / "stage.json").write_text(json.dumps({"complete": True, "gates": [gate]}))


def test_a_reward_model_must_have_passed_its_own_gate(inputs: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(inputs, tmp_path / "in")
    stage = tiny_stage(tmp_path / "in", args={"max_steps": 4})
    record(tmp_path / "in/scorer", False)
    with pytest.raises(GateError, match="reward_above_chance: measured accuracy 0.9"):
        stage.run(context_in(tmp_path / "in", tmp_path / "out"))
    record(tmp_path / "in/scorer", True)
    context = context_in(tmp_path / "in", tmp_path / "out")
    stage.run(context)
    assert context.gate_results[0]["passed"] is True
    assert context.gate_results[0]["measured"] == "accuracy 0.9"


def test_a_policy_that_runs_away_is_stopped(inputs: Path, tmp_path: Path) -> None:
    stage = tiny_stage(inputs, kl_bound=0.01, args={"learning_rate": 0.05, "kl_coef": 0.0})
    with pytest.raises(GateError, match="kl_within.*at most 0.01 nats"):
        stage.run(context_in(inputs, tmp_path))


def test_too_few_or_too_long_prompts(inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="32 prompts, and one rollout takes 64"):
        stage = tiny_stage(inputs, args={"num_mini_batches": 16})
        stage.run(context_in(inputs, tmp_path))
    with pytest.raises(InputError, match="prompts are longer than the 4 tokens"):
        tiny_stage(inputs, args={"max_completion_length": 60}).run(context_in(inputs, tmp_path))


GOOD = Facts(context_length=64, eos_token="<|endoftext|>", pad_token="<|pad|>", chat_template=True)


@pytest.mark.parametrize(
    ("changes", "facts", "what"),
    [
        ({"rewards": ()}, GOOD, "rewards: is empty"),
        ({"dataset": ()}, GOOD, "dataset: is empty"),
        ({"kl_bound": 0.0}, GOOD, "kl_bound: 0.0 is not positive"),
        ({}, Facts(chat_template=False), "no chat template"),
        ({"args": {"max_completion_length": 64}}, GOOD, "args.max_completion_length"),
        ({"args": {"beta": 0.1}}, GOOD, "args.beta: has no place here; the KL penalty is part"),
        ({"args": {"epsilon": 0.1}}, GOOD, "cliprange and cliprange_value"),
        ({"args": {"scale_rewards": "batch"}}, GOOD, "there are no groups here"),
        ({"args": {"num_iterations": 2}}, GOOD, "PPO's name for it is num_ppo_epochs"),
        ({"args": {"steps_per_generation": 2}}, GOOD, "it follows: per_device_train_batch_size"),
        ({"args": {"reward_weights": [1.0]}}, GOOD, "give each of `rewards` its own `weight`"),
        ({"args": {"disable_dropout": False}}, GOOD, "args.disable_dropout: has no place here"),
        ({"args": {"save_only_model": True}}, GOOD, "could not go on in the same bytes"),
        ({"patches": ["fused_head_loss"]}, GOOD, "fused_head_loss does not go with TRL"),
    ],
)
def test_problems_are_told_before_anything_runs(
    inputs: Path, changes: dict[str, Any], facts: Facts, what: str
) -> None:
    problems = [str(p) for p in tiny_stage(inputs, **changes).problems({"base": facts})]
    assert len(problems) == 1 and what in problems[0]


def test_a_value_model_needs_a_reward_model_to_begin_as(inputs: Path) -> None:
    rewards = tiny_stage(inputs).rewards[:1]
    stage = tiny_stage(inputs, rewards=rewards, value_model="reward")
    (problem,) = stage.problems({"base": GOOD})
    assert "no reward model among the rewards" in str(problem)


def test_a_sound_stage_has_no_problem(inputs: Path) -> None:
    stage = tiny_stage(inputs, args={"disable_dropout": True, "kl_target": 3.0})
    assert list(stage.problems({"base": GOOD})) == []
    assert stage.facts({"base": GOOD}) == GOOD
    assert {file.name for file in stage.files()} == {"prompts.jsonl", "tiny_ppo.py"}
    stage.prepare("ppo")
    with pytest.raises(UserError, match="^ppo.args: PPOConfig refuses it: lam: 2"):
        tiny_stage(inputs, args={"lam": 2}).prepare("ppo")
