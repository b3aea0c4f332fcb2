"""`reward` end to end on a tiny model: the folder, what it learns, resume, faults of a recipe."""

from __future__ import annotations

import json
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
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from llmkit.errors import GateError, InputError, UserError
from llmkit.reward_model import load_reward_model, scores
from llmkit.stage import Facts

PLAIN_FILES = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
}
GOOD = [{"role": "user", "content": "abcde?"}, {"role": "assistant", "content": "blue ab"}]
BAD = [GOOD[0], {"role": "assistant", "content": "red ab"}]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def finished(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """An uninterrupted training: its folder, figures and context."""
    out = tmp_path_factory.mktemp("finished")
    context = context_in("reward", inputs, out)
    return out, tiny_stage("reward", inputs).run(context), context


def test_a_preference_is_learnt(finished: tuple[Path, Any, Any]) -> None:
    _, figures, context = finished
    assert figures["accuracy"] >= 0.95 and figures["accuracy_low"] > 0.9
    assert figures["mean_margin"] > 1
    assert figures["pairs"] + figures["held_out_pairs"] == 300 and figures["held_out_pairs"] > 50
    assert figures["length_baseline"] < 0.8 and figures["length_rule"] == "longer wins"
    assert [g["gate"] for g in context.gate_results] == [
        "answers_fit",
        "same_template",
        "finite_loss",
        "above_chance",
    ]
    assert all(gate["passed"] for gate in context.gate_results)
    json.dumps(figures)


def test_plain_transformers_scores_alike(finished: tuple[Path, Any, Any]) -> None:
    out = finished[0]
    assert set(artefacts(out)) == PLAIN_FILES
    model, loaded = AutoModelForSequenceClassification.from_pretrained(
        out, output_loading_info=True
    )
    assert not loaded["missing_keys"] and not loaded["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(out)
    ids = tokenizer.apply_chat_template(
        [GOOD, BAD], padding=True, padding_side="right", return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        plain = model(**ids).logits[:, 0].tolist()
    assert scores(*load_reward_model(out), [GOOD, BAD]) == pytest.approx(plain, abs=1e-6)
    assert plain[0] > plain[1] + 1
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
            tiny_stage("reward", inputs).run(context_in("reward", inputs, tmp_path))
    figures = tiny_stage("reward", inputs).run(context_in("reward", inputs, tmp_path))
    assert artefacts(tmp_path) == artefacts(finished[0])
    assert figures["accuracy"] == finished[1]["accuracy"]


@pytest.mark.slow
def test_kill_9_and_again_gives_the_same_bytes(
    inputs: Path, finished: tuple[Path, Any, Any], tmp_path: Path
) -> None:
    command = [sys.executable, tiny_pairs.__file__, "reward", str(inputs), str(tmp_path)]
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
    peft = {"r": 8, "lora_alpha": 32, "target_modules": ["c_attn", "c_fc", "c_proj"]}
    figures = tiny_stage("reward", inputs, peft=peft).run(context_in("reward", inputs, tmp_path))
    adapter = {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    assert set(artefacts(tmp_path)) == PLAIN_FILES | adapter
    assert figures["accuracy"] > 0.9
    good, bad = scores(*load_reward_model(tmp_path), [GOOD, BAD])
    assert good > bad


def test_pairs_that_teach_nothing_are_gated(inputs: Path, tmp_path: Path) -> None:
    stage = tiny_stage("reward", inputs, args={"max_steps": 1, "learning_rate": 0.0})
    with pytest.raises(GateError, match=r"above_chance: measured accuracy 0\.\d+ \[0\.\d+, "):
        stage.run(context_in("reward", inputs, tmp_path))


def test_an_eval_dataset_without_the_prompts_of_training(inputs: Path, tmp_path: Path) -> None:
    pairs = tiny_pairs.rows(60, seed=1)
    kinds = [{**row, "rejected_ended": False} for row in pairs[:20]]
    seen = tiny_pairs.rows(300)[:5]
    file = write(tmp_path / "held_out.jsonl", [*kinds, *pairs[20:], *seen])
    held_out = {"eval_dataset": (source(file),), "eval_fraction": None}
    stage = tiny_stage("reward", inputs, args={"max_steps": 2}, **held_out)
    figures = stage.run(context_in("reward", inputs, tmp_path / "out", gates="warn"))
    assert figures["pairs"] == 300 and figures["held_out_pairs"] == 60
    assert figures["eval_prompts_in_training"] == 5
    assert [path.name for path in stage.files()] == ["pairs.jsonl", "held_out.jsonl"]


def test_tokens_per_step(inputs: Path, tmp_path: Path) -> None:
    args = {"max_steps": 2, "per_device_train_batch_size": 4}
    stage = tiny_stage("reward", inputs, tokens_per_step=400, args=args)
    figures = stage.run(context_in("reward", inputs, tmp_path, gates="warn"))
    # about 36 tokens a pair, 4 pairs at once: 3 batches an update
    assert figures["steps"] == 2 and 600 < figures["tokens"] < 1100


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "chosen and rejected are the same"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "rejected: message 2, the assistant's"),
        ({"chosen": "b", "rejected": "c"}, "without roles"),
    ],
)
def test_bad_rows_are_named(inputs: Path, tmp_path: Path, row: Any, what: str) -> None:
    file = write(tmp_path / "bad.jsonl", [*tiny_pairs.rows(60), row])
    with pytest.raises(InputError, match=rf"bad\.jsonl:61: .*{what}"):
        tiny_stage("reward", inputs, dataset=(source(file),)).run(
            context_in("reward", inputs, tmp_path / "out")
        )
    allowed = {"max_bad_rows": 1, "args": {"max_steps": 1}}
    stage = tiny_stage("reward", inputs, dataset=(source(file),), **allowed)
    figures = stage.run(context_in("reward", inputs, tmp_path / "out", gates="warn"))
    assert figures["bad_rows"] == 1


def test_too_few_pairs(inputs: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "few.jsonl", tiny_pairs.rows(3))
    stage = tiny_stage("reward", inputs, dataset=(source(file),), eval_fraction=0.001)
    with pytest.raises(InputError, match=r"reward\.dataset: 0 pairs are held out"):
        stage.run(context_in("reward", inputs, tmp_path / "out"))
    with pytest.raises(UserError, match="max_length.*128 is more than the 64 tokens"):
        tiny_stage("reward", inputs, args={"max_length": 128}).run(
            context_in("reward", inputs, tmp_path / "out")
        )


SOUND = Facts(context_length=64, eos_token="<|endoftext|>", pad_token="<|pad|>", chat_template=True)


@pytest.mark.parametrize(
    ("changes", "facts", "what"),
    [
        ({"args": {"max_length": 65}}, SOUND, "args.max_length: 65 is too long"),
        ({"args": {"max_length": 0}}, SOUND, "args.max_length: 0 is not positive"),
        ({}, Facts(chat_template=False), "no chat template"),
        ({}, Facts(eos_token="<e>", pad_token="<e>"), "pads with its end of text <e>"),
        ({"dataset": ()}, SOUND, "dataset: is empty"),
        ({"eval_dataset": (), "eval_fraction": None}, SOUND, "eval_dataset: is empty"),
        ({"eval_fraction": 1.0}, SOUND, "eval_fraction: 1.0 is not above 0 and below 1"),
        ({"args": {"eval_strategy": "steps"}}, SOUND, "measured once"),
        ({"args": {"model_init_kwargs": {}}}, SOUND, "llmkit loads the model itself"),
        ({"args": {"pad_token": "<|pad|>"}}, SOUND, "the tokenizer of the model says it"),
        ({"args": {"save_only_model": True}}, SOUND, "could not go on in the same bytes"),
        ({"patches": ["fused_head_loss"]}, SOUND, "does not go with pairs"),
        ({"patches": ["gelo"]}, SOUND, "did you mean gelu?"),
        ({"max_bad_rows": -1}, SOUND, "max_bad_rows: -1 is negative"),
        ({"tokens_per_step": 0}, SOUND, "tokens_per_step: 0 is not positive"),
    ],
)
def test_problems_are_told_before_anything_runs(
    inputs: Path, changes: dict[str, Any], facts: Facts, what: str
) -> None:
    problems = [str(p) for p in tiny_stage("reward", inputs, **changes).problems({"base": facts})]
    assert len(problems) == 1 and what in problems[0]


def test_two_ways_to_hold_out_are_one_too_many(inputs: Path) -> None:
    held_out = source(inputs / "pairs.jsonl", weight=1.0)
    stage = tiny_stage("reward", inputs, eval_dataset=(held_out, source(inputs / "pairs.jsonl")))
    problems = [str(problem) for problem in stage.problems({"base": SOUND})]
    assert [problem.split(":")[0] for problem in problems] == ["eval_dataset", "eval_fraction"]


def test_a_sound_stage_has_no_problem(inputs: Path) -> None:
    stage = tiny_stage("reward", inputs, args={"center_rewards_coefficient": 0.01})
    assert list(stage.problems({"base": SOUND})) == []
    assert stage.facts({"base": SOUND}) == SOUND
    assert stage.makes == ("reward_model",)


def test_configs_are_constructed_beforehand(inputs: Path) -> None:
    tiny_stage("reward", inputs).prepare("judge")
    with pytest.raises(UserError, match=r"^judge\.args: "):
        tiny_stage("reward", inputs, args={"warmup_steps": -1}).prepare("judge")
    with pytest.raises(UserError, match=r"^judge\.peft: "):
        tiny_stage(
            "reward", inputs, peft={"r": 4, "layers_to_transform": [0], "target_modules": "all"}
        ).prepare("judge")


def test_new_layers_learn_above_a_body_that_stays(inputs: Path, tmp_path: Path) -> None:
    context = context_in("reward", inputs, tmp_path)
    figures = tiny_stage("reward", inputs, new_layers=1).run(context)
    assert figures["accuracy"] > 0.9
    base = AutoModelForSequenceClassification.from_pretrained(inputs / "base", num_labels=1)
    made = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert made.config.num_hidden_layers == base.config.num_hidden_layers + 1
    kept = {n: p for n, p in base.transformer.named_parameters() if not n.startswith("ln_f")}
    found = dict(made.transformer.named_parameters())
    assert all(torch.equal(found[name], parameter) for name, parameter in kept.items())


def test_new_layers_and_peft_are_one_too_many(inputs: Path) -> None:
    stage = tiny_stage("reward", inputs, new_layers=1, peft={"r": 2})
    found = [str(problem) for problem in stage.problems({"base": Facts()})]
    assert any("new_layers" in text and "keep one" in text for text in found)
