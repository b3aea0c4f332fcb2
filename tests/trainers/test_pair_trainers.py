"""First losses of both trainers, worked out from plain forwards; DPO's gate on its start."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_chat import tiny_folder, tiny_model, tiny_tokenizer
from trl import DPOConfig, RewardConfig

from llmkit.data.chat.preferences import Pair
from llmkit.errors import GateError
from llmkit.reward_model import fresh_reward_model
from llmkit.stage import Context
from llmkit.trainers.arguments import checkpointing
from llmkit.trainers.pair_trainers import PreferenceTuner, RewardTuner, answer_log_probabilities
from llmkit.trainers.pairs import PairRows, divided_rows, tokenized, whole_rows

ANSWERS = [("blue", "red", True), ("Anna bakes", "An", False), ("I do not know who", "é", True)]
PAIRS = [
    Pair([{"role": "user", "content": f"{i}?"}], good, bad, rejected_ended=ended)
    for i, (good, bad, ended) in enumerate(ANSWERS)
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture
def rows(tokenizer: Any) -> PairRows:
    return tokenized(tokenizer, PAIRS, 64, "rows")


def arguments(cls: Any, out: Path, **more: Any) -> Any:
    more = {"per_device_train_batch_size": 3} | more
    return cls(
        output_dir=str(out),
        max_steps=1,
        learning_rate=1e-3,
        bf16=False,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        max_length=None,
        **checkpointing(cls, more),
    )


def log_sigmoid(value: float) -> float:
    return -math.log1p(math.exp(-value))


def test_the_reward_loss_of_the_first_step(rows: PairRows, tmp_path: Path) -> None:
    """-ln sigmoid(chosen - reward of rejected), from one unpadded forward a row."""
    model, tokenizer = fresh_reward_model(tiny_folder(tmp_path / "base"), seed=1)
    with torch.no_grad():
        model.score.weight.mul_(20)  # so that the loss is not ln 2 by itself
        expected = [
            -log_sigmoid(float(model(torch.tensor([c])).logits - model(torch.tensor([r])).logits))
            for c, r in ((row["chosen_ids"], row["rejected_ids"]) for row in whole_rows(rows))
        ]
    trainer = RewardTuner(
        model=model,
        args=arguments(RewardConfig, tmp_path),
        context=Context(name="reward", out=tmp_path),
        train_dataset=whole_rows(rows),
        processing_class=tokenizer,
    )
    found = trainer.train().training_loss
    assert found == pytest.approx(sum(expected) / 3, rel=1e-5)
    assert abs(found - math.log(2)) > 1e-3


def dpo(model: Any, rows: PairRows, tokenizer: Any, out: Path, reference: Any, **more: Any) -> Any:
    return PreferenceTuner(
        model=model,
        ref_model=reference,
        args=arguments(DPOConfig, out, **more),
        context=Context(name="dpo", out=out),
        train_dataset=divided_rows(rows),
        processing_class=tokenizer,
    )


@pytest.mark.parametrize("accumulated", [1, 3])
def test_dpo_starts_at_ln_2(
    tokenizer: Any, rows: PairRows, tmp_path: Path, accumulated: int
) -> None:
    model = tiny_model(tokenizer)
    sizes = {
        "gradient_accumulation_steps": accumulated,
        "per_device_train_batch_size": 3 // accumulated,
    }
    trainer = dpo(model, rows, tokenizer, tmp_path, copy.deepcopy(model), **sizes)
    assert trainer.train().training_loss == pytest.approx(math.log(2), abs=1e-6)
    (gate,) = trainer.context.gate_results
    assert gate["gate"] == "first_loss" and gate["passed"] is True


def test_the_dpo_loss_against_another_reference(
    tokenizer: Any, rows: PairRows, tmp_path: Path
) -> None:
    """The loss by hand from log-probabilities; and the gate, since this is no fresh start."""
    model, other = tiny_model(tokenizer), tiny_model(tokenizer, seed=1)
    expected = 0.0
    for row in divided_rows(rows):
        gains = {}
        for side in ("chosen_ids", "rejected_ids"):
            gains[side] = summed(model, row["prompt_ids"], row[side])
            gains[side] -= summed(other, row["prompt_ids"], row[side])
        expected -= log_sigmoid(0.7 * (gains["chosen_ids"] - gains["rejected_ids"])) / 3
    trainer = dpo(model, rows, tokenizer, tmp_path, other, beta=0.7)
    with pytest.raises(GateError, match="first_loss"):
        trainer.train()
    assert trainer.meter.loss == pytest.approx(expected, rel=1e-4)


def test_other_losses_start_elsewhere(tokenizer: Any, rows: PairRows, tmp_path: Path) -> None:
    model = tiny_model(tokenizer)
    trainer = dpo(model, rows, tokenizer, tmp_path, copy.deepcopy(model), loss_type=["hinge"])
    assert trainer.train().training_loss == pytest.approx(1.0, abs=1e-6)
    assert trainer.context.gate_results == []


def summed(model: Any, prompt: list[int], answer: list[int]) -> float:
    with torch.no_grad():
        log_p = model(torch.tensor([prompt + answer])).logits[0].double().log_softmax(-1)
    positions = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
    return sum(float(log_p[at, token]) for at, token in zip(positions, answer, strict=True))


def test_log_probabilities_of_answers(tokenizer: Any, rows: PairRows) -> None:
    model = tiny_model(tokenizer)
    found = answer_log_probabilities(model, rows.prompts, rows.rejected, "likelihood")
    expected = [summed(model, r["prompt_ids"], r["rejected_ids"]) for r in divided_rows(rows)]
    assert found == pytest.approx(expected, rel=1e-5)
