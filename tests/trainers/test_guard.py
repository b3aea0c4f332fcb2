"""A loss or gradient that is not finite stops before the update, under Trainer and SFTTrainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_training import make_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments
from trl import SFTConfig, SFTTrainer

from llmkit.errors import GateError, UserError
from llmkit.stage import Context
from llmkit.trainers.arguments import training_arguments
from llmkit.trainers.guard import Guarded, batch_digest
from llmkit.trainers.muon import Muon
from llmkit.trainers.session import train

NAN = (
    r"loss nan at step 1, batch [0-9a-f]{12}, must be finite; "
    "lower learning_rate or mend the data; changed settings start the stage from its beginning"
)


class GuardedTrainer(Guarded, Trainer):
    pass


class GuardedTuner(Guarded, SFTTrainer):
    pass


def model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    ids = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 2}
    return GPT2LMHeadModel(
        GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=24, n_positions=16, **ids)
    )


def trainer_in(folder: Path, **settings: Any) -> GuardedTrainer:
    context = Context(name="tiny", out=folder, gates=settings.pop("gates", "stop"))
    given = {"max_steps": 5, "per_device_train_batch_size": 2, "use_cpu": True}
    args = training_arguments(TrainingArguments, given | settings.pop("args", {}), folder, 0)
    rows = torch.randint(0, 24, (20, 8), generator=torch.Generator().manual_seed(0))
    data = [{"input_ids": row, "labels": row} for row in rows]
    return GuardedTrainer(model=model(), args=args, context=context, train_dataset=data, **settings)


def break_gradient(trainer: Trainer, at_step: int) -> None:
    """From that step on, one element of one gradient is infinite while the loss is finite."""

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        if trainer.state.global_step >= at_step:
            gradient = gradient.clone()
            gradient[0] = torch.inf
        return gradient

    trainer.model.transformer.ln_f.bias.register_hook(spoil)


def copy_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_nan_loss_stops_before_the_update(tmp_path: Path, optimizer: Any) -> None:
    trainer = trainer_in(tmp_path, optimizer=optimizer, args={"learning_rate": 0.1})
    # A weight that is NaN makes the first loss NaN, and would make every weight NaN.
    with torch.no_grad():
        trainer.model.transformer.ln_f.bias[3] = torch.nan
    before = copy_of(trainer.model)
    with pytest.raises(GateError, match=NAN):
        train(trainer)
    for name, value in trainer.model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    assert trainer.context.gate_results[-1]["gate"] == "finite_loss"


@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
def test_infinite_gradient_stops_before_the_update(tmp_path: Path, max_grad_norm: float) -> None:
    trainer = trainer_in(tmp_path, args={"max_grad_norm": max_grad_norm})
    break_gradient(trainer, at_step=2)
    with pytest.raises(GateError, match="gradient norm (inf|nan) at step 3"):
        train(trainer)
    assert trainer.state.global_step == 2
    assert all(value.isfinite().all() for value in trainer.model.state_dict().values())


def test_warned_gates_leave_the_weights_alone_and_go_on(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, gates="warn")
    break_gradient(trainer, at_step=0)
    before = copy_of(trainer.model)
    assert train(trainer)["steps"] == 5
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_counts_tokens_and_trains_with_muon(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, optimizer="muon", args={"gradient_accumulation_steps": 2})
    figures = train(trainer)
    assert figures["tokens"] == 5 * 2 * 2 * 8
    assert isinstance(trainer.optimizer.optimizer, Muon)


def test_a_peak_out_of_reach_is_told_when_the_steps_are_known(tmp_path: Path) -> None:
    """Twenty rows, two at once, are ten steps an epoch; the recipe alone does not tell."""
    args = {"max_steps": -1, "num_train_epochs": 1, "warmup_steps": 10}
    with pytest.raises(UserError, match=r"^tiny\.args\.warmup_steps: 10 of warmup .* at most 9"):
        train(trainer_in(tmp_path, args=args))
    fall = {"num_decay_steps": 8}
    decay = {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": fall}
    with pytest.raises(UserError, match=r"^tiny\.args\.lr_scheduler_kwargs\.num_decay_steps: 8 of"):
        train(trainer_in(tmp_path, args=args | decay | {"warmup_steps": 3}))
    assert train(trainer_in(tmp_path, args=args | decay | {"warmup_steps": 2}))["steps"] == 10


def test_what_an_optimizer_refuses_names_the_stage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^tiny\.args: the optimizer refuses it: Invalid beta"):
        train(trainer_in(tmp_path, args={"adam_beta2": 1.5}))


def test_batch_digest_tells_batches_apart() -> None:
    batch = {"input_ids": torch.tensor([[1, 2]]), "labels": torch.tensor([[1, 2]])}
    other = {"input_ids": torch.tensor([[1, 3]]), "labels": torch.tensor([[1, 2]])}
    assert batch_digest([batch]) == batch_digest([dict(reversed(batch.items()))])
    assert batch_digest([batch]) != batch_digest([other])
    assert batch_digest([batch]) != batch_digest([batch, batch])


def test_the_same_mixin_guards_an_sft_trainer(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path / "tokenizer")
    given = {"max_steps": 3, "per_device_train_batch_size": 2, "max_length": 16, "use_cpu": True}
    args = training_arguments(SFTConfig, given, tmp_path, 0)
    data = Dataset.from_dict({"text": ["the red cat sees a dog"] * 6})
    trainer = GuardedTuner(
        model=model(),
        args=args,
        context=Context(name="sft", out=tmp_path),
        train_dataset=data,
        processing_class=tokenizer,
        optimizer="muon",
    )
    break_gradient(trainer, at_step=1)
    with pytest.raises(GateError, match="at step 2"):
        train(trainer)
    assert trainer.state.global_step == 1


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ((), None),  # the tied head is not in the file, and nothing is missing
        (("transformer.h.0.ln_1.weight",), "['transformer.h.0.ln_1.weight']"),
        (("transformer.wte.weight",), "['transformer.wte.weight', 'lm_head.weight']"),
    ],
)
def test_a_resume_tells_of_weights_that_are_missing_and_of_no_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, gone: tuple[str, ...], told: str | None
) -> None:
    from safetensors.torch import load_file, save_file
    from transformers.utils import logging as logging_of_transformers

    trainer = trainer_in(tmp_path)
    checkpoint = tmp_path / "checkpoint-1"
    trainer.save_model(str(checkpoint))
    weights = load_file(checkpoint / "model.safetensors")
    assert "lm_head.weight" not in weights
    kept = {name: weight for name, weight in weights.items() if name not in gone}
    save_file(kept, checkpoint / "model.safetensors")
    logger = logging_of_transformers.get_logger("transformers")
    logger.addHandler(caplog.handler)
    try:
        trainer._load_from_checkpoint(str(checkpoint))
    finally:
        logger.removeHandler(caplog.handler)
    if told is None:
        assert caplog.text == ""
    else:
        assert f"missing keys in the checkpoint model loaded: {told}" in caplog.text
