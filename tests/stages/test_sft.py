"""`sft` end to end on a tiny model: artefacts, answers, adapters, resume, faults of a recipe."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_tuning
import torch
from tiny_chat import ids_by_hand
from tiny_training import PLAIN_FILES, artefacts
from tiny_tuning import (
    QUESTIONS,
    context_in,
    make_inputs,  # noqa: F401 - the fixture `inputs` calls it
    tiny_stage,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmkit.errors import GateError, InputError, UserError
from llmkit.stage import Facts
from llmkit.trainers.settings import MuonOptimizer, MuonSettings


@pytest.fixture(scope="module")
def finished(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """An uninterrupted training: its folder, figures and context."""
    out = tmp_path_factory.mktemp("finished")
    context = context_in(inputs, out)
    return out, tiny_stage(inputs).run(context), context


def answers(folder: Path) -> dict[str, str]:
    """What plain transformers says to each question, with what the folder alone holds."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    said = {}
    for asked in QUESTIONS:
        prompt = ids_by_hand(tokenizer, [{"role": "user", "content": asked}], asks=True)
        ids = torch.tensor([prompt])
        new = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20)
        said[asked] = tokenizer.decode(new[0, len(prompt) :], skip_special_tokens=False)
    return said


def test_a_plain_folder_that_answers_and_stops(finished: tuple[Path, Any, Any]) -> None:
    out, figures, context = finished
    assert set(artefacts(out)) == PLAIN_FILES
    assert answers(out) == {asked: f"{said}<|end|>" for asked, said in QUESTIONS.items()}
    assert figures["ended"] == 1.0 and figures["conversations"] == 24
    assert [g["gate"] for g in context.gate_results] == [
        "end_of_turn_trained",
        "trained_tokens",
        "same_template",
        "finite_loss",
        "generation_stops",
    ]
    assert all(gate["passed"] for gate in context.gate_results)
    json.dumps(figures)


def test_the_folder_says_how_it_ends(finished: tuple[Path, Any, Any]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(finished[0])
    config = json.loads((finished[0] / "generation_config.json").read_text())
    closing = tokenizer.convert_tokens_to_ids("<|end|>")
    assert config["eos_token_id"] == [closing, tokenizer.eos_token_id]
    assert config["pad_token_id"] == tokenizer.pad_token_id
    chat = [{"role": "user", "content": "sky?"}]
    asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
    assert asked["input_ids"] == ids_by_hand(tokenizer, chat, asks=True)
    for name, data in artefacts(finished[0]).items():
        assert str(finished[0].parent).encode() not in data, f"{name} holds a path"


@pytest.mark.parametrize("stopped_at", [7, 23, 60])
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
            tiny_stage(inputs).run(context_in(inputs, tmp_path))
    tiny_stage(inputs).run(context_in(inputs, tmp_path))
    assert artefacts(tmp_path) == artefacts(finished[0])


@pytest.mark.slow
def test_kill_9_and_again_gives_the_same_bytes(
    inputs: Path, finished: tuple[Path, Any, Any], tmp_path: Path
) -> None:
    command = [sys.executable, tiny_tuning.__file__, str(inputs), str(tmp_path)]
    with subprocess.Popen([*command, "0.2"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "step 15":
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert artefacts(tmp_path) == artefacts(finished[0])


# peft, loading the adapter below, reads a name that transformers 5.23 has deprecated.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_an_adapter_and_the_two_merged(inputs: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    peft = {"r": 8, "lora_alpha": 32, "target_modules": ["c_attn", "c_fc", "c_proj"]}
    stage = tiny_stage(inputs, peft=peft, args={"learning_rate": 5e-2, "max_steps": 20})
    stage.run(context_in(inputs, tmp_path, gates="warn"))
    adapter = {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    assert set(artefacts(tmp_path)) == PLAIN_FILES | adapter
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base" and config["r"] == 8
    base = AutoModelForCausalLM.from_pretrained(inputs / "base")
    ids = torch.tensor([[5, 9, 20, 33]])
    untuned = base(ids).logits.detach().clone()
    together = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()(ids).logits
    merged = AutoModelForCausalLM.from_pretrained(tmp_path)(ids).logits
    assert torch.allclose(together, merged, atol=1e-4)
    assert not torch.allclose(untuned, merged, atol=1e-2)


def test_muon_and_tokens_per_step(inputs: Path, tmp_path: Path) -> None:
    muon = MuonOptimizer(muon=MuonSettings(learning_rate=0.05))
    args = {"max_steps": 3, "per_device_train_batch_size": 4}
    stage = tiny_stage(inputs, optimizer=muon, tokens_per_step=200, args=args)
    figures = stage.run(context_in(inputs, tmp_path, gates="warn"))
    # about 15 tokens a row, 4 rows at once: 3 or 4 batches an update
    assert figures["steps"] == 3 and 3 * 3 * 4 * 10 < figures["tokens"] < 3 * 4 * 4 * 25


def test_training_that_does_not_stop_is_gated(inputs: Path, tmp_path: Path) -> None:
    stage = tiny_stage(inputs, args={"max_steps": 1, "learning_rate": 0.0})
    with pytest.raises(GateError, match="generation_stops"):
        stage.run(context_in(inputs, tmp_path))


def test_too_long_conversations_are_gated(inputs: Path, tmp_path: Path) -> None:
    stage = tiny_stage(inputs, args={"max_length": 6})
    with pytest.raises(GateError, match="trained_tokens"):
        stage.run(context_in(inputs, tmp_path))
    with pytest.raises(UserError, match="max_length.*128 is more than the 64 tokens"):
        tiny_stage(inputs, args={"max_length": 128}).run(context_in(inputs, tmp_path))


def test_bad_rows_are_named(inputs: Path, tmp_path: Path) -> None:
    text = (inputs / "chats.jsonl").read_text() + '{"prompt": "sky?", "completion": ""}\n'
    (tmp_path / "chats.jsonl").write_text(text)
    with pytest.raises(InputError, match=r"chats.jsonl:25: message 2, the assistant's, is empty"):
        tiny_stage(tmp_path).run(context_in(inputs, tmp_path / "out"))
    stage = tiny_stage(tmp_path, max_bad_rows=1, args={"max_steps": 1})
    assert stage.run(context_in(inputs, tmp_path / "out", gates="warn"))["bad_rows"] == 1


GOOD = Facts(context_length=64, eos_token="<|endoftext|>", pad_token="<|pad|>", chat_template=True)


@pytest.mark.parametrize(
    ("changes", "facts", "what"),
    [
        ({"args": {"max_length": 65}}, GOOD, "args.max_length: 65 is too long"),
        ({}, Facts(chat_template=False), "no chat template"),
        ({}, Facts(eos_token="<e>", pad_token="<e>"), "pads with its end of text <e>"),
        ({"dataset": ()}, GOOD, "dataset: is empty"),
        ({"args": {"packing": True}}, GOOD, "args.packing: has no place here"),
        ({"args": {"shuffle_dataset": True}}, GOOD, "shuffled anew each epoch"),
        ({"args": {"per_device_eval_batch_size": 4}}, GOOD, "conversation_loss"),
        ({"args": {"save_only_model": True}}, GOOD, "could not go on in the same bytes"),
        ({"args": {"ignore_data_skip": True}}, GOOD, "would read other rows"),
        ({"args": {"remove_unused_columns": True}}, GOOD, "nothing else"),
        ({"args": {"per_device_train_batch_size": 0}}, GOOD, "0 is not positive"),
        ({"args": {"max_length": 0}}, GOOD, "args.max_length: 0 is not positive"),
        ({"args": {"max_steps": 0}}, GOOD, "args.max_steps: 0 takes no step"),
        ({"tokens_per_step": 0}, GOOD, "tokens_per_step: 0 is not positive"),
        ({"max_bad_rows": -1}, GOOD, "max_bad_rows: -1 is negative"),
        ({"patches": ["gelo"]}, GOOD, "patches: no patch is called 'gelo'; did you mean gelu?"),
        ({"args": {"assistant_only_loss": False}}, GOOD, "args.assistant_only_loss: has no place"),
        ({"args": {"eval_strategy": "steps"}}, GOOD, "conversation_loss"),
        ({"patches": ["fused_head_loss"]}, GOOD, "TRL's trainer has its own"),
        ({"optimizer": "muon", "args": {"optim": "adamw_torch"}}, GOOD, "keep one"),
        (
            {"tokens_per_step": 9, "args": {"gradient_accumulation_steps": 2}},
            GOOD,
            "tokens_per_step: sets gradient_accumulation_steps",
        ),
    ],
)
def test_problems_are_told_before_anything_runs(
    inputs: Path, changes: dict[str, Any], facts: Facts, what: str
) -> None:
    problems = [str(p) for p in tiny_stage(inputs, **changes).problems({"base": facts})]
    assert len(problems) == 1 and what in problems[0]


def test_a_sound_stage_has_no_problem(inputs: Path) -> None:
    stage = tiny_stage(
        inputs, args={"assistant_only_loss": True, "max_length": 64, "save_only_model": False}
    )
    assert list(stage.problems({"base": GOOD})) == []
    assert stage.facts({"base": GOOD}) == GOOD
    assert [file.name for file in stage.files()] == ["chats.jsonl"]


def test_configs_are_constructed_beforehand(inputs: Path) -> None:
    tiny_stage(inputs).prepare("chat")
    with pytest.raises(UserError, match="^chat.args: "):
        tiny_stage(inputs, args={"warmup_steps": -1}).prepare("chat")
    with pytest.raises(UserError, match="^chat.peft: "):
        tiny_stage(
            inputs, peft={"r": 4, "layers_to_transform": [0], "target_modules": "all"}
        ).prepare("chat")
