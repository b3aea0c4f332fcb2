"""`pretrain` watched while it runs, begun with a model, left out of spikes, on a schedule."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from test_pretrain import at_step
from tiny_training import (
    CONTEXT,
    WORDS,
    artefacts,
    context_in,
    make_inputs,  # noqa: F401 - the fixture `inputs` calls it
    tiny_stage,
)

from llmkit.errors import GateError, Stopped, UserError
from llmkit.stage import Facts
from llmkit.tasks.digit_sums import DigitSums
from llmkit.tasks.hellaswag import HellaSwag, PathChoices
from llmkit.trainers.pretrain_settings import Samples, SkipSpikes

STEPS, WARM, PEAK = 12, 3, 1e-2


def rows_of(out: Path, name: str = "train.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "logs" / name).read_text().splitlines()]


def cosine(step: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * (step - WARM) / (STEPS - WARM)))


def stable_then_cosine(step: int) -> float:
    """WSD: flat, and half a cosine over the last 4 steps (Hugging Face's default form)."""
    return 1.0 if step < STEPS - 4 else 0.5 * (1 + math.cos(math.pi * (step - STEPS + 4) / 4))


def stable_then_line(step: int) -> float:
    return 1.0 if step < STEPS - 4 else (STEPS - step) / 4


@pytest.mark.parametrize(
    ("name", "more", "after"),
    [
        ("cosine", {}, cosine),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}, lambda step: 0.1 + 0.9 * cosine(step)),
        ("warmup_stable_decay", {"num_decay_steps": 4}, stable_then_cosine),
        (
            "warmup_stable_decay",
            {"num_decay_steps": 4, "decay_type": "linear"},
            stable_then_line,
        ),
        ("constant_with_warmup", {}, lambda step: 1.0),
    ],
)
def test_the_learning_rate_follows_its_formula(
    name: str, more: dict[str, Any], after: Any, inputs: Path, tmp_path: Path
) -> None:
    args = {
        "max_steps": STEPS,
        "warmup_steps": WARM,
        "learning_rate": PEAK,
        "lr_scheduler_type": name,
        "lr_scheduler_kwargs": more,
        "logging_steps": 1,
        "save_strategy": "no",
    }
    tiny_stage(args=args).run(context_in(inputs, tmp_path))
    found = [row["learning_rate"] for row in rows_of(tmp_path) if "learning_rate" in row]
    expected = [PEAK * (step / WARM if step < WARM else after(step)) for step in range(STEPS)]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-12)


SAID = Samples(prompts=["the red cat", "and then"], every=10)


def test_samples_are_taken_and_change_nothing(inputs: Path, tmp_path: Path) -> None:
    sampled = Samples(**vars(SAID) | {"generation": {"max_new_tokens": 4, "do_sample": True}})
    for name, samples in (("with", sampled), ("without", None)):
        context = context_in(inputs, tmp_path / name, price=7200.0)
        figures = tiny_stage(samples=samples).run(context)
    assert artefacts(tmp_path / "with") == artefacts(tmp_path / "without")
    rows = rows_of(tmp_path / "with", "samples.jsonl")
    assert [(row["step"], row["prompt"]) for row in rows] == [
        (step, prompt) for step in (10, 20, 30) for prompt in SAID.prompts
    ]
    assert all(word in WORDS for row in rows for word in row["completion"].split())
    # Two dollars a second, of one rank; the log tells of it as it grows.
    assert 0 < figures["cost"] <= 2 * figures["train_seconds"]
    told = [row["cost"] for row in rows_of(tmp_path / "without") if "cost" in row]
    assert len(told) == 6 and told == sorted(told)
    assert all(row["tokens_per_second"] > 0 for row in rows_of(tmp_path / "with") if "loss" in row)


def test_a_training_that_goes_on_writes_no_row_twice(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is broken off at step 17, when the newest checkpoint is that of step 10; and at step 3."""

    def broken() -> None:
        raise KeyboardInterrupt

    samples, args = Samples(prompts=["the red cat"], every=4), {"logging_steps": 1}
    for name, steps in (("whole", ()), ("cut", (3, 17))):
        for step in steps:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                at_step(patch, step, broken)
                tiny_stage(samples=samples, args=args).run(context_in(inputs, tmp_path / name))
        tiny_stage(samples=samples, args=args).run(context_in(inputs, tmp_path / name))
    for file in ("train.jsonl", "samples.jsonl"):
        whole, cut = rows_of(tmp_path / "whole", file), rows_of(tmp_path / "cut", file)
        shown = ("step", "loss", "first_loss", "completion")
        assert [[row.get(key) for key in shown] for row in cut] == [
            [row.get(key) for key in shown] for row in whole
        ]
    assert len(whole) == 8


def test_a_prompt_without_room_is_told_before_the_first_step(inputs: Path, tmp_path: Path) -> None:
    samples = Samples(prompts=["the", " ".join(WORDS)], every=5)
    with pytest.raises(UserError, match=r"pretrain.samples.prompts\[1\]: has 1\d tokens"):
        tiny_stage(samples=samples).run(context_in(inputs, tmp_path))
    assert not (tmp_path / "logs" / "train.jsonl").exists()


def test_spikes_are_left_out_alike_by_a_training_that_was_stopped(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So small a sigma that some steps are always left out."""
    spikes = SkipSpikes(sigma=0.7, window=6)
    whole = tiny_stage(skip_spikes=spikes).run(context_in(inputs, tmp_path / "whole"))
    assert 0 < whole["skipped_steps"] < 25
    with monkeypatch.context() as patch:
        at_step(patch, 13, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped):
            tiny_stage(skip_spikes=spikes).run(context_in(inputs, tmp_path / "cut"))
    again = tiny_stage(skip_spikes=spikes).run(context_in(inputs, tmp_path / "cut"))
    assert again["skipped_steps"] == whole["skipped_steps"]
    assert artefacts(tmp_path / "cut") == artefacts(tmp_path / "whole")
    plain = tmp_path / "plain"
    tiny_stage().run(context_in(inputs, plain))
    assert artefacts(plain) != artefacts(tmp_path / "whole")


def test_goes_on_with_a_model(inputs: Path, tmp_path: Path) -> None:
    tiny_stage(args={"max_steps": 60}).run(context_in(inputs, tmp_path / "first"))
    context = context_in(inputs, tmp_path / "second")
    context.inputs["base"] = tmp_path / "first"
    later = tiny_stage(model="base", config={}, args={"max_steps": 3})
    later = type(later)(**vars(later) | {"config": {"resid_pdrop": 0.0}})
    later.run(context)
    (first_loss,) = [gate for gate in context.gate_results if gate["gate"] == "first_loss"]
    assert first_loss["passed"]
    assert first_loss["bound"] == f"below ln(vocabulary) = {math.log(len(WORDS) + 6):.3f}"
    ended = [row["loss"] for row in rows_of(tmp_path / "first") if "loss" in row][-1]
    assert first_loss["measured"] == pytest.approx(ended, abs=0.15)
    config = json.loads((tmp_path / "second" / "config.json").read_text())
    assert config["n_embd"] == 32 and config["resid_pdrop"] == 0.0


def test_a_model_that_only_guesses_was_given_other_ids(inputs: Path, tmp_path: Path) -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=1, n_head=2, n_embd=32, vocab_size=21, n_positions=CONTEXT, initializer_range=1.0
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "wild")
    context = context_in(inputs, tmp_path / "out")
    context.inputs["base"] = tmp_path / "wild"
    stage = tiny_stage(model="base")
    with pytest.raises(GateError, match="gate first_loss: .* below ln.vocabulary.*tokenizer"):
        type(stage)(**vars(stage) | {"config": {}}).run(context)


def test_choices_are_made_at_every_evaluation(inputs: Path, tmp_path: Path) -> None:
    file = tmp_path / "v.txt"
    file.write_text("the red cat\n1\nruns\nsees the dog\nfinds\nold\nthe\n0\ncat\nand\n a\nand\n")
    task = HellaSwag(dataset=[PathChoices(path=str(file))])
    args = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "no"}
    stage = tiny_stage(args=args, tasks=[task])
    assert list(stage.files()) == [file]
    figures = stage.run(context_in(inputs, tmp_path / "out"))
    rows = [row for row in rows_of(tmp_path / "out") if "eval_loss" in row]
    assert [row["step"] for row in rows] == [2, 4, 4]
    for row in rows:
        assert row["eval_hellaswag_accuracy_norm"] in (0.0, 0.5, 1.0)
    assert figures["hellaswag_accuracy"] == rows[-1]["eval_hellaswag_accuracy"]


def told(stage: Any, **base: Any) -> list[str]:
    upstream = {
        "tokenizer": Facts(vocab_size=300, eos_token="<|endoftext|>"),
        "shards": Facts(vocab_size=300, context_length=64),
        "base": Facts(**base),
    }
    return [str(problem) for problem in stage.problems(upstream)]


def test_problems_of_a_model_to_begin_with() -> None:
    assert told(tiny_stage(model="base"), context_length=64) == [
        f"config.{key}: is what base is already; leave it out"
        for key in ("n_layer", "n_head", "n_embd")
    ]
    free = tiny_stage(model="base")
    free = type(free)(**vars(free) | {"config": {}})
    assert told(free, context_length=64, vocab_size=280) == []
    (what,) = told(free, context_length=32)
    assert what.startswith("model: base holds 32 tokens, and a row has 64; lower context_length")
    assert free.facts({"base": Facts(vocab_size=280, context_length=128)}).context_length == 128
    (what,) = told(tiny_stage(revision="main"))
    assert what.startswith("revision: is of no model")


def test_problems_of_what_is_watched() -> None:
    wrong = Samples(prompts=["a"], every=1, generation={"max_new_tokens": 64, "max_length": 3})
    found = told(tiny_stage(samples=wrong, tasks=[DigitSums()]))
    assert [what.split(":")[0] for what in found] == [
        "samples.generation.max_length",
        "samples.generation.max_new_tokens",
        "tasks[0]",
    ]
    assert "add an `evaluate` stage" in found[-1]
    for given in ({"prompts": [], "every": 1}, {"prompts": ["a"], "every": 0}):
        with pytest.raises(ValueError, match="prompts|every"):
            Samples(**given)
