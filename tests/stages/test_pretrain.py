"""`pretrain` end to end on a tiny model: artefacts, resume, stops, figures."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_training
import torch
from tiny_training import (
    CONTEXT,
    PLAIN_FILES,
    artefacts,
    context_in,
    make_inputs,  # noqa: F401 - the fixture `inputs` calls it
    tiny_stage,
)
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from llmkit.errors import GateError, Stopped, UserError
from llmkit.stage import Facts

GATES = ["validation_not_in_training", "first_loss", "finite_loss"]


@pytest.fixture(scope="module")
def finished(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An uninterrupted training: its folder and figures."""
    out = tmp_path_factory.mktemp("finished")
    return out, tiny_stage().run(context_in(inputs, out))


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Any) -> None:
    """Call `act()` when this process ends its training step number `step`."""
    from llmkit.trainers import session

    class Act(TrainerCallback):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.seal = seal(*args, **kwargs)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == step:
                act()

        def on_save(self, *args: Any, **kwargs: Any) -> None:
            self.seal.on_save(*args, **kwargs)

    seal = session.SealCheckpoints
    monkeypatch.setattr(session, "SealCheckpoints", Act)


def test_writes_a_plain_model_folder(finished: tuple[Path, dict[str, Any]]) -> None:
    out, _ = finished
    assert set(artefacts(out)) == PLAIN_FILES
    model = AutoModelForCausalLM.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert model.config.vocab_size == len(tokenizer) and model.config.n_positions == CONTEXT
    assert model.config.use_cache and model.generation_config.use_cache is not False
    for config in (model.config, model.generation_config):
        assert config.eos_token_id == tokenizer.eos_token_id
        assert config.pad_token_id == tokenizer.pad_token_id
    for name, data in artefacts(out).items():
        assert str(out.parent).encode() not in data, f"{name} holds a path"


def test_validation_figures_equal_the_hand_formula(
    inputs: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    """Every validation token once, each predicted within its window of 15 predictions."""
    out, figures = finished
    model = AutoModelForCausalLM.from_pretrained(out).eval()
    index = json.loads((inputs / "shards" / "index.json").read_text())
    entry = index["splits"]["validation"]
    stored = [(inputs / "shards" / shard["file"]).read_bytes() for shard in entry["shards"]]
    ids = torch.frombuffer(bytearray(b"".join(stored)), dtype=torch.uint16).long()
    stream = torch.cat([torch.tensor([index["eos_token_id"]]), ids])
    nats = 0.0
    for start in range(0, len(ids), CONTEXT - 1):
        window = stream[start : start + CONTEXT]
        with torch.no_grad():
            chances = model(window[None]).logits[0].double().log_softmax(-1)
        nats -= chances[:-1].gather(1, window[1:, None]).sum().item()
    assert figures["validation_loss"] == pytest.approx(nats / len(ids), rel=1e-5)
    bits = nats / math.log(2) / entry["bytes"]
    assert figures["bits_per_byte"] == pytest.approx(bits, rel=1e-5)


def test_document_masking_scores_each_document_by_itself(inputs: Path, tmp_path: Path) -> None:
    """By hand: the model reads the part of a window that belongs to one document, and no more."""
    args = {"max_steps": 3, "save_strategy": "no"}
    figures = tiny_stage(document_masking=True, args=args).run(context_in(inputs, tmp_path))
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    from llmkit.data.tokens.shards import TokenWindows

    windows = TokenWindows(inputs / "shards", "validation", CONTEXT)
    nats, parts = 0.0, 0
    for window in windows:
        ids, labels = window["input_ids"], window["labels"]
        starts = [
            0,
            *(place + 1 for place in range(CONTEXT - 1) if ids[place] == model.config.eos_token_id),
        ]
        for start, end in zip(starts, [*starts[1:], CONTEXT], strict=True):
            with torch.no_grad():
                chances = model(ids[None, start:end]).logits[0].double().log_softmax(-1)
            wanted = labels[start + 1 : end + 1]
            due = wanted != -100
            chosen = chances[: len(wanted)].gather(1, wanted.clamp(min=0)[:, None])[:, 0]
            nats -= chosen[due].sum().item()
            parts += 1
    assert parts > 2 * len(windows), "the windows hold several documents"
    assert figures["validation_loss"] == pytest.approx(nats / windows.predicted, rel=1e-5)


def test_first_loss_is_the_mean_over_predicted_tokens(inputs: Path, tmp_path: Path) -> None:
    """Not over all T tokens a row, and the same however the batch is cut into micro-batches."""
    losses = []
    for name, args in (("whole", {"per_device_train_batch_size": 8}), ("cut", {})):
        still = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        given = {"max_steps": 1, "save_strategy": "no", **args}
        stage = tiny_stage(args=given, config=still, tokens_per_step=8 * CONTEXT)
        stage.run(context_in(inputs, tmp_path / name))
        line = (tmp_path / name / "logs" / "train.jsonl").read_text().splitlines()[0]
        losses.append(json.loads(line)["first_loss"])
    from transformers import set_seed

    from llmkit.data.tokens.shards import TokenWindows

    set_seed(3)
    config = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").config
    fresh = AutoModelForCausalLM.from_config(config).eval()
    ids = TokenWindows(inputs / "shards", "train", CONTEXT, 3).batch(range(8))["input_ids"]
    with torch.no_grad():
        chances = fresh(ids).logits.log_softmax(-1)[:, :-1]
    expected = -chances.gather(2, ids[:, 1:, None]).mean().item()
    assert losses == pytest.approx([expected, expected], rel=1e-5)


def logged_steps(out: Path) -> list[int]:
    lines = (out / "logs" / "train.jsonl").read_text().splitlines()
    return [row["step"] for row in map(json.loads, lines) if "loss" in row]


def test_kill_9_and_run_again_gives_the_same_bytes(
    inputs: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    command = [sys.executable, tiny_training.__file__, str(inputs), str(tmp_path), "0.1"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "step 14\n":
                process.kill()
    assert process.returncode == -signal.SIGKILL
    figures = tiny_stage().run(context_in(inputs, tmp_path))
    assert artefacts(tmp_path) == artefacts(finished[0])
    assert figures["validation_loss"] == finished[1]["validation_loss"]
    assert figures["tokens"] == finished[1]["tokens"] == 30 * 4 * CONTEXT
    assert logged_steps(tmp_path).count(5) == 1, "resumed at the start, not at step 10"
    assert logged_steps(tmp_path) == logged_steps(finished[0]) == [5, 10, 15, 20, 25, 30]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_stops_with_a_checkpoint(
    number: signal.Signals,
    inputs: Path,
    finished: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        at_step(patch, 13, lambda: os.kill(os.getpid(), number))
        with pytest.raises(Stopped) as stopped:
            tiny_stage().run(context_in(inputs, tmp_path))
    assert stopped.value.exit_status == 128 + number
    assert signal.getsignal(number) == before
    # The signal comes as step 13 ends; it is seen then or, at the latest, one step on.
    newest = sorted((tmp_path / "scratch" / "checkpoints").iterdir())[-1]
    assert newest.name in ("checkpoint-13", "checkpoint-14")
    context = context_in(inputs, tmp_path)
    tiny_stage().run(context)
    assert artefacts(tmp_path) == artefacts(finished[0])
    # The first loss was measured by the try that was stopped, and is told of all the same.
    assert [gate["gate"] for gate in context.gate_results] == GATES
    assert context.gate_results[1]["measured"] == pytest.approx(math.log(22), abs=0.5)


def test_a_second_interrupt_stops_at_once(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step(monkeypatch, 3, twice)
    with pytest.raises(KeyboardInterrupt):
        tiny_stage().run(context_in(inputs, tmp_path))


def test_resume_falls_back_to_the_checkpoint_before(
    inputs: Path,
    finished: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        at_step(patch, 22, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped):
            tiny_stage(optimizer="muon").run(context_in(inputs, tmp_path))
    newest = sorted((tmp_path / "scratch" / "checkpoints").iterdir())[-1]
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    figures = tiny_stage(optimizer="muon").run(context_in(inputs, tmp_path))
    assert f"{newest.name} is left out: model.safetensors has changed" in caplog.text
    assert figures["tokens"] == 30 * 4 * CONTEXT  # counted on from the checkpoint that was whole
    assert logged_steps(tmp_path).count(20) == 1, "resumed before step 20"
    whole = tmp_path / "whole"
    tiny_stage(optimizer="muon").run(context_in(inputs, whole))
    muon = {name: data for name, data in artefacts(tmp_path).items() if name in PLAIN_FILES}
    assert muon == artefacts(whole)
    assert muon["model.safetensors"] != artefacts(finished[0])["model.safetensors"]


def test_a_kill_after_the_last_step_trains_no_further(
    inputs: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(finished[0] / "scratch", tmp_path / "scratch")
    context = context_in(inputs, tmp_path)
    figures = tiny_stage().run(context)
    assert figures["tokens"] == finished[1]["tokens"] and figures["steps"] == 30
    assert "tokens_per_second" not in figures
    assert [gate["gate"] for gate in context.gate_results] == GATES
    assert artefacts(tmp_path) == artefacts(finished[0])


def test_epochs_become_steps_over_reshuffled_windows(inputs: Path, tmp_path: Path) -> None:
    from llmkit.data.tokens.shards import TokenWindows

    windows = len(TokenWindows(inputs / "shards", "train", CONTEXT))
    args = {"max_steps": -1, "num_train_epochs": 1.5, "save_strategy": "no"}
    figures = tiny_stage(args=args).run(context_in(inputs, tmp_path))
    assert figures["steps"] == math.ceil(1.5 * windows / 4)


def test_transformers_has_nothing_to_complain_of(
    inputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It would say that GPT-2 names no loss, were that not settled for the training."""
    from transformers.utils import logging as logging_of_transformers

    logging_of_transformers.warning_once.cache_clear()
    logger = logging_of_transformers.get_logger("transformers")
    logger.addHandler(caplog.handler)
    try:
        args = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "no"}
        tiny_stage(args=args).run(context_in(inputs, tmp_path))
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.text == ""
    assert "loss_type" not in (tmp_path / "config.json").read_text()


def test_a_wild_start_is_stopped_by_the_first_loss(inputs: Path, tmp_path: Path) -> None:
    context = context_in(inputs, tmp_path)
    with pytest.raises(GateError, match="gate first_loss: measured .* ln.vocabulary. = 3.045"):
        tiny_stage(config={"initializer_range": 3.0}).run(context)


def test_gates_are_recorded_when_passed(inputs: Path, tmp_path: Path) -> None:
    context = context_in(inputs, tmp_path)
    tiny_stage(args={"max_steps": 2}).run(context)
    assert [gate["gate"] for gate in context.gate_results] == GATES
    assert all(gate["passed"] for gate in context.gate_results)


def test_validation_runs_during_training_when_asked(inputs: Path, tmp_path: Path) -> None:
    args = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2}
    tiny_stage(args=args).run(context_in(inputs, tmp_path))
    lines = (tmp_path / "logs" / "train.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows if "eval_loss" in row][:2] == [2, 4]


def test_facts_and_problems_before_anything_runs() -> None:
    upstream = {
        "tokenizer": Facts(vocab_size=300, eos_token="<|endoftext|>", chat_template=True),
        "shards": Facts(vocab_size=300, context_length=64),
    }
    facts = tiny_stage().facts(upstream)
    assert (facts.vocab_size, facts.context_length, facts.chat_template) == (300, 64, True)
    assert not list(tiny_stage(tokens_per_step=64 * 8).problems(upstream))

    wrong = tiny_stage(
        config={"vocab_size": 200, "n_positions": 32, "n_embd": 30, "n_head": 4},
        tokens_per_step=100,
        optimizer="muon",
        args={"optim": "sgd", "gradient_accumulation_steps": 2},
        patches=["gelo"],
    )
    found = {str(problem).split(":")[0] for problem in wrong.problems(upstream)}
    assert found == {
        "config.vocab_size",
        "config.n_positions",
        "config.n_embd",
        "tokens_per_step",
        "args.optim",
        "patches",
    }
    unread = tiny_stage(
        args={
            "train_sampling_strategy": "random",
            "do_eval": True,
            "per_device_train_batch_size": 0,
        },
        tokens_per_step=64,
    )
    assert [str(problem).split(":")[0] for problem in unread.problems(upstream)] == [
        "args.per_device_train_batch_size",
        "args.train_sampling_strategy",
        "args.do_eval",
    ]
    bare = upstream | {"shards": Facts(vocab_size=300, context_length=64, validation=False)}
    (told,) = tiny_stage().problems(bare)
    assert told.path == ("shards",) and "validation_fraction above 0" in told.remedy
    other = upstream | {"shards": Facts(vocab_size=301, context_length=64)}
    assert [problem.path for problem in tiny_stage().problems(other)] == [("shards",)]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"args": {"warmup_steps": -1}}, "^base.args: "),
        ({"config": {"n_layer": "two"}}, "^base.config: "),
    ],
)
def test_prepare_tells_what_transformers_refuses(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        tiny_stage(**changes).prepare("base")
