"""`grpo` end to end on a tiny model: it learns, saves a plain folder, and says why it cannot."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_chat import tiny_model, tiny_tokenizer
from tiny_policy import Ascii, context_in, make_inputs, tiny_stage
from tiny_training import artefacts
from transformers import AutoModelForCausalLM

from llmkit.errors import GateError, InputError, UserError
from llmkit.rewards.function import FunctionReward

# peft reads a name that transformers 5.23 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

PLAIN_FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
}
LEARNING = {
    "max_steps": 40,
    "per_device_train_batch_size": 32,
    "steps_per_generation": 1,
    "num_iterations": 1,
    "num_generations": 8,
    "learning_rate": 1e-2,
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def learnt(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    out = tmp_path_factory.mktemp("learnt")
    context = context_in(inputs, out)
    return out, tiny_stage(args=LEARNING).run(context), context


def test_what_is_rewarded_becomes_likely(learnt: tuple[Path, Any, Any]) -> None:
    """Bytes of ASCII are half of all at the start, and can be all of them."""
    _, figures, context = learnt
    assert 0.3 < figures["reward_first"] < 0.8 and figures["reward_last"] > 0.95
    assert figures["steps"] == 40 and figures["prompts"] == 24
    assert 0 <= figures["ended"] <= 1 and 0 < figures["completion_tokens"] <= 8
    gates = [(gate["gate"], gate["passed"]) for gate in context.gate_results]
    assert gates == [("reward_spread", True), ("finite_loss", True)]
    assert context.gate_results[0]["measured"].startswith("24 of 24 groups (mean reward 0.")
    json.dumps(figures)


def test_the_curve_has_trls_names(learnt: tuple[Path, Any, Any]) -> None:
    lines = (learnt[0] / "logs" / "train.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows if "reward" in row] == list(range(1, 41))
    wanted = {"reward", "reward_std", "frac_reward_zero_std", "entropy", "rewards/ascii/mean"}
    assert wanted | {"ascii/ascii", "completions/mean_length"} <= set(rows[0])


def test_a_plain_folder_that_generates_as_the_base_did(
    inputs: Path, learnt: tuple[Path, Any, Any]
) -> None:
    out = learnt[0]
    assert set(artefacts(out)) == PLAIN_FILES
    for name in ("config.json", "generation_config.json"):
        assert json.loads((out / name).read_text()) == json.loads(
            (inputs / "base" / name).read_text()
        )
    model = AutoModelForCausalLM.from_pretrained(out)
    base = AutoModelForCausalLM.from_pretrained(inputs / "base")
    assert not torch.equal(model.transformer.wte.weight, base.transformer.wte.weight)


def test_a_further_reward_and_a_penalty(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "tiny_rewards.py").write_text(
        "def short(completions, ended, **columns):\n"
        "    assert len(ended) == len(completions)\n"
        "    return [-float(len(said[-1]['content'])) for said in completions]\n"
    )
    stage = tiny_stage(
        rewards=(FunctionReward(function="tiny_rewards:short", weight=0.5),),
        args={"max_steps": 4, "beta": 0.1},
    )
    figures = stage.run(context_in(inputs, tmp_path / "out"))
    shown = (tmp_path / "out/logs/completions.jsonl").read_text().splitlines()[0]
    row = json.loads(shown)
    assert set(row["rewards"]) == {"ascii", "short"}
    wanted = row["rewards"]["ascii"] + 0.5 * row["rewards"]["short"]
    assert row["reward"] == pytest.approx(wanted) and "kl" in figures


def test_a_reward_that_fails_stops_the_training(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "bad_rewards.py").write_text(
        "def fails(completions, **columns):\n    return [None for said in completions]\n"
    )
    stage = tiny_stage(rewards=(FunctionReward(function="bad_rewards:fails"),))
    with pytest.raises(UserError, match="^reward fails: returned None for the prompt '"):
        stage.run(context_in(inputs, tmp_path / "out"))


@pytest.mark.parametrize(
    ("constant", "remedy"),
    [(0.0, "none is right: fine-tune the model"), (1.0, "all are right: the task is solved")],
)
def test_rewards_that_are_all_alike_are_gated(
    inputs: Path, tmp_path: Path, constant: float, remedy: str
) -> None:
    stage = tiny_stage(tasks=(Ascii(constant=constant),))
    measured = rf"measured 0 of 24 groups \(mean reward {constant:.3f}\)"
    with pytest.raises(GateError, match=f"gate reward_spread: {measured}.*{remedy}"):
        stage.run(context_in(inputs, tmp_path))
    stage = tiny_stage(tasks=(Ascii(constant=constant),), args={"max_steps": 4})
    context = context_in(inputs, tmp_path / "warned", gates="warn")
    assert stage.run(context)["flat_groups"] == 1.0


def test_one_and_the_same_answer_is_gated(inputs: Path, tmp_path: Path) -> None:
    stage = tiny_stage(args={"temperature": 1e-4})
    with pytest.raises(GateError, match="one and the same answer: raise args.temperature"):
        stage.run(context_in(inputs, tmp_path))


def test_the_gate_is_told_again_after_a_stop(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmkit.trainers.display import ShowProgress

    inner = ShowProgress.on_step_end

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        inner(self, args, state, control, **kwargs)
        if state.global_step == 6:
            raise RuntimeError("power cut")

    stage = tiny_stage(args={"max_steps": 8, "save_steps": 4})
    first = context_in(inputs, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(ShowProgress, "on_step_end", on_step_end)
        with pytest.raises(RuntimeError, match="power cut"):
            stage.run(first)
    second = context_in(inputs, tmp_path)
    stage.run(second)
    assert second.gate_results[0] == first.gate_results[0]


def test_an_adapter_and_the_two_merged(inputs: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    peft = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.2, "target_modules": ["c_attn", "c_fc"]}
    stage = tiny_stage(peft=peft, args={"max_steps": 4, "beta": 0.1, "learning_rate": 5e-2})
    figures = stage.run(context_in(inputs, tmp_path))
    adapter = {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    assert set(artefacts(tmp_path)) == PLAIN_FILES | adapter
    assert figures["kl"] > 0  # against the model without the adapter
    ids = torch.tensor([[5, 9, 20, 33]])
    base = AutoModelForCausalLM.from_pretrained(inputs / "base")
    alone = base(ids).logits.detach().clone()
    together = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()(ids).logits
    merged = AutoModelForCausalLM.from_pretrained(tmp_path)(ids).logits
    assert torch.allclose(together, merged, atol=1e-4)
    assert not torch.allclose(alone, merged, atol=1e-3)


def test_prompts_that_fill_the_context_are_told(inputs: Path, tmp_path: Path) -> None:
    stage = tiny_stage(args={"max_completion_length": 50})
    with pytest.raises(InputError, match="^policy: .* of 24 prompts are longer than the 14 tokens"):
        stage.run(context_in(inputs, tmp_path))


def test_too_few_prompts_are_told(inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="^policy: there are 3 prompts, and one rollout takes 4"):
        tiny_stage(num_prompts=3).run(context_in(inputs, tmp_path))


def test_a_model_without_a_chat_template_is_told(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(template=None)
    tiny_model(tokenizer).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    with pytest.raises(InputError, match="has no chat template"):
        tiny_stage().run(context_in(tmp_path, tmp_path / "out"))
