"""`dpo` end to end on a tiny model: the folder, what it learns, resume, faults of a recipe."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_pairs
import torch
from tiny_pairs import context_in, make_inputs, source, tiny_stage, write
from tiny_training import artefacts
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmkit.errors import GateError, InputError
from llmkit.stage import Facts

PLAIN_FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
}
LORA = {"r": 8, "lora_alpha": 32, "target_modules": ["c_attn", "c_fc"]}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def finished(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """An uninterrupted training: its folder, figures and context."""
    out = tmp_path_factory.mktemp("finished")
    context = context_in("dpo", inputs, out)
    return out, tiny_stage("dpo", inputs).run(context), context


def test_a_preference_is_learnt(finished: tuple[Path, Any, Any]) -> None:
    _, figures, context = finished
    assert figures["accuracy"] >= 0.95 and figures["accuracy_low"] > 0.9
    margin = figures["mean_chosen_reward"] - figures["mean_rejected_reward"]
    assert figures["mean_margin"] == pytest.approx(margin) and margin > 1
    assert figures["length_rule"] == "longer wins"
    assert [g["gate"] for g in context.gate_results] == [
        "answers_fit",
        "same_template",
        "first_loss",
        "finite_loss",
    ]
    assert all(gate["passed"] for gate in context.gate_results)
    json.dumps(figures)


def log_probability(model: Any, tokenizer: Any, asked: str, answer: str) -> float:
    """ln p of the answer and its end of turn, by plain transformers."""
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": asked}], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    said = [*tokenizer(answer)["input_ids"], tokenizer.convert_tokens_to_ids("<|end|>")]
    with torch.no_grad():
        log_p = model(torch.tensor([prompt + said])).logits[0].log_softmax(-1)
    return sum(float(log_p[len(prompt) - 1 + at, token]) for at, token in enumerate(said))


def test_rewards_are_gains_in_log_probability(
    inputs: Path, finished: tuple[Path, Any, Any]
) -> None:
    """The held-out figures again, from the two folders alone."""
    from llmkit.data.chat.preferences import Pair
    from llmkit.trainers.pairs import divided

    tokenizer = AutoTokenizer.from_pretrained(finished[0])
    models = [AutoModelForCausalLM.from_pretrained(f) for f in (finished[0], inputs / "base")]
    pairs = [
        Pair([{"role": "user", "content": row["prompt"]}], row["chosen"], row["rejected"])
        for row in tiny_pairs.rows(300)
    ]
    held_out = divided(pairs, 0.3)[1]
    rewards = []
    for pair in held_out:
        asked = pair.prompt[0]["content"]
        for answer in (pair.chosen, pair.rejected):
            after, before = (log_probability(m, tokenizer, asked, answer) for m in models)
            rewards.append(0.1 * (after - before))
    chosen, rejected = rewards[::2], rewards[1::2]
    figures = finished[1]
    assert figures["held_out_pairs"] == len(held_out)
    wins = sum(c > r for c, r in zip(chosen, rejected, strict=True))
    assert figures["accuracy"] == wins / len(held_out)
    assert figures["mean_chosen_reward"] == pytest.approx(sum(chosen) / len(chosen), abs=1e-4)
    assert figures["mean_rejected_reward"] == pytest.approx(sum(rejected) / len(chosen), abs=1e-4)


def test_a_plain_folder_that_says_how_it_ends(finished: tuple[Path, Any, Any]) -> None:
    out = finished[0]
    assert set(artefacts(out)) == PLAIN_FILES
    tokenizer = AutoTokenizer.from_pretrained(out)
    config = json.loads((out / "generation_config.json").read_text())
    closing = tokenizer.convert_tokens_to_ids("<|end|>")
    assert config["eos_token_id"] == [closing, tokenizer.eos_token_id]
    assert config["pad_token_id"] == tokenizer.pad_token_id
    model, loaded = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not loaded["missing_keys"] and not loaded["unexpected_keys"] and model.config.use_cache
    for name, data in artefacts(out).items():
        assert str(out.parent).encode() not in data, f"{name} holds a path"


@pytest.mark.parametrize("stopped_at", [7, 13, 30])
def test_a_broken_off_training_ends_in_the_same_bytes(
    inputs: Path,
    finished: tuple[Path, Any, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stopped_at: int,
) -> None:
    from llmkit.trainers.display import ShowProgress

    inner = ShowProgress.on_step_end

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        inner(self, args, state, control, **kwargs)
        if state.global_step == stopped_at:
            raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(ShowProgress, "on_step_end", on_step_end)
        with pytest.raises(RuntimeError, match="power cut"):
            tiny_stage("dpo", inputs).run(context_in("dpo", inputs, tmp_path))
    context = context_in("dpo", inputs, tmp_path)
    figures = tiny_stage("dpo", inputs).run(context)
    assert artefacts(tmp_path) == artefacts(finished[0])
    assert figures["mean_margin"] == finished[1]["mean_margin"]
    assert "first_loss" in [gate["gate"] for gate in context.gate_results]


@pytest.mark.slow
def test_kill_9_and_again_gives_the_same_bytes(
    inputs: Path, finished: tuple[Path, Any, Any], tmp_path: Path
) -> None:
    command = [sys.executable, tiny_pairs.__file__, "dpo", str(inputs), str(tmp_path)]
    with subprocess.Popen([*command, "0.2"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "step 15":
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert artefacts(tmp_path) == artefacts(finished[0])


def test_an_adapter_and_the_two_merged(inputs: Path, tmp_path: Path) -> None:
    context = context_in("dpo", inputs, tmp_path)
    figures = tiny_stage("dpo", inputs, peft=LORA).run(context)
    adapter = {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    assert set(artefacts(tmp_path)) == PLAIN_FILES | adapter
    assert figures["accuracy"] > 0.9
    (first,) = [gate for gate in context.gate_results if gate["gate"] == "first_loss"]
    assert first["measured"] == round(math.log(2), 4)  # the adapter switched off is the reference


def test_a_reference_computed_beforehand_trains_alike(
    inputs: Path, finished: tuple[Path, Any, Any], tmp_path: Path
) -> None:
    stage = tiny_stage("dpo", inputs, args={"precompute_ref_log_probs": True})
    figures = stage.run(context_in("dpo", inputs, tmp_path))
    assert figures["mean_margin"] == pytest.approx(finished[1]["mean_margin"], rel=0.02)


def test_patches_are_lent_to_both_models(inputs: Path, tmp_path: Path) -> None:
    context = context_in("dpo", inputs, tmp_path)
    stage = tiny_stage("dpo", inputs, patches=["gelu"], args={"max_steps": 2})
    stage.run(context)
    (first,) = [gate for gate in context.gate_results if gate["gate"] == "first_loss"]
    assert first["measured"] == round(math.log(2), 4)


def test_dropout_left_on_is_found(inputs: Path, tmp_path: Path) -> None:
    for file in (inputs / "base").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"resid_pdrop": 0.5, "embd_pdrop": 0.5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    context = context_in("dpo", inputs, tmp_path / "out")
    context.inputs = {"base": tmp_path}
    stage = tiny_stage("dpo", inputs, args={"disable_dropout": False, "beta": 2.0})
    with pytest.raises(GateError, match=r"first_loss.*disable_dropout"):
        stage.run(context)
    context = context_in("dpo", inputs, tmp_path / "again")
    context.inputs = {"base": tmp_path}
    tiny_stage("dpo", inputs, args={"max_steps": 1}).run(context)
    assert all(gate["passed"] for gate in context.gate_results)


def test_bad_rows_are_named(inputs: Path, tmp_path: Path) -> None:
    bad = {"prompt": "a", "chosen": "b", "rejected": "b"}
    file = write(tmp_path / "bad.jsonl", [*tiny_pairs.rows(9), bad])
    with pytest.raises(InputError, match=r"bad\.jsonl:10: chosen and rejected are the same"):
        tiny_stage("dpo", inputs, dataset=(source(file),)).run(
            context_in("dpo", inputs, tmp_path / "out")
        )


SOUND = Facts(context_length=64, eos_token="<|endoftext|>", pad_token="<|pad|>", chat_template=True)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"args": {"truncation_mode": "keep_end"}}, "loses the beginning of its prompt"),
        ({"args": {"padding_free": True}}, "padded to the longest"),
        ({"args": {"sync_ref_model": True}}, "no checkpoint holds a reference that moves"),
        ({"args": {"model_init_kwargs": {}}}, "llmkit loads the model itself"),
        ({"args": {"eval_steps": 5}}, "measured once"),
        ({"args": {"max_length": 65}}, "args.max_length: 65 is too long"),
        ({"patches": ["fused_head_loss"]}, "does not go with pairs"),
    ],
)
def test_problems_are_told_before_anything_runs(
    inputs: Path, changes: dict[str, Any], what: str
) -> None:
    problems = [str(p) for p in tiny_stage("dpo", inputs, **changes).problems({"base": SOUND})]
    assert len(problems) == 1 and what in problems[0]


def test_a_sound_stage_has_no_problem(inputs: Path) -> None:
    stage = tiny_stage("dpo", inputs, args={"beta": 0.05, "loss_type": ["ipo"]})
    assert list(stage.problems({"base": SOUND})) == []
    assert stage.facts({"base": SOUND}) == SOUND and stage.makes == ("model",)
    stage.prepare("dpo")
