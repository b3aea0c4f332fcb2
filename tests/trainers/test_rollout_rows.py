"""Micro-batches by length: the same rows, the same update, less padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_rollouts import trainer_of

from llmkit.trainers.rollout_rows import by_length, trimmed

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def batch(prompts: list[int], completions: list[int]) -> dict[str, Any]:
    """Rows of these lengths, padded as TRL pads a rollout: to 4 and 6."""
    prompt_mask = torch.tensor([[0] * (4 - size) + [1] * size for size in prompts])
    completion_mask = torch.tensor([[1] * size + [0] * (6 - size) for size in completions])
    advantages = torch.tensor([p + c / 10 for p, c in zip(prompts, completions, strict=True)])
    return {
        "prompt_ids": prompt_mask * 7,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_mask * 9,
        "completion_mask": completion_mask,
        "old_per_token_logps": completion_mask * -0.5,
        "advantages": advantages,
        "num_items_in_batch": torch.tensor(20),
    }


def test_common_padding_is_cut_off() -> None:
    cut = trimmed(batch([2, 3], [1, 4]))
    assert cut["prompt_mask"].tolist() == [[0, 1, 1], [1, 1, 1]]
    assert cut["completion_mask"].tolist() == [[1, 0, 0, 0], [1, 1, 1, 1]]
    assert cut["old_per_token_logps"].shape == (2, 4) and cut["advantages"].shape == (2,)
    assert cut["num_items_in_batch"] == 20
    masked = trimmed(batch([2, 3], [0, 0]))  # completions that were cut off may be masked whole
    assert masked["completion_ids"].shape == (2, 1)


def test_rows_change_places_within_an_update_alone() -> None:
    batches = [
        batch([1, 4], [1, 6]),
        batch([2, 4], [2, 3]),
        batch([1, 1], [1, 2]),
        batch([4, 1], [6, 1]),
    ]
    found = by_length(batches, 2)
    pairs = [[round(value.item(), 1) for value in each["advantages"]] for each in found]
    assert pairs == [[4.6, 4.3], [2.2, 1.1], [4.6, 1.2], [1.1, 1.1]]
    widths = [(b["prompt_ids"].shape[1], b["completion_ids"].shape[1]) for b in found]
    assert widths == [(4, 6), (2, 2), (4, 6), (1, 1)]
    alone = by_length(batches, 1)
    assert [sorted(b["advantages"].tolist()) for b in alone] == [
        sorted(b["advantages"].tolist()) for b in batches
    ]


@pytest.mark.parametrize("loss", ["dapo", "grpo", "dr_grpo", "bnpo"])
def test_the_update_is_the_same(tmp_path: Path, loss: str) -> None:
    """Two updates of two micro-batches each, from one rollout of different lengths."""
    args = {
        "loss_type": loss,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "steps_per_generation": 4,
        "optim": "sgd",  # Adam would make much of what rounding leaves of a zero
        "learning_rate": 1.0,
        "max_steps": 2,
    }
    weights = []
    for sorts in (False, True):
        trainer = trainer_of(tmp_path / str(sorts), **args)
        trainer.sorts_rows = sorts
        stop = torch.randint(6, 300, (60,), generator=torch.Generator().manual_seed(1)).tolist()
        trainer.eos_token_ids = trainer.generation_config.eos_token_id = stop  # many end early
        trainer.train()
        lengths = [b["completion_ids"].shape[1] for b in trainer._buffered_inputs]
        weights.append((trainer.model.state_dict(), lengths))
    (plain, before), (ordered, after) = weights
    assert len(set(before)) == 1
    assert sum(after) < sum(before) or loss == "bnpo"  # whose rows stay where they are
    for name, value in plain.items():
        assert torch.allclose(value, ordered[name], atol=1e-5), name


def test_how_many_micro_batches_may_exchange_rows(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)

    def window(update: int, rollout: int, **settings: Any) -> int:
        trainer.args.gradient_accumulation_steps = update
        trainer.args.steps_per_generation = rollout
        for name, value in ({"loss_type": "dapo", "entropy_coef": 0.0} | settings).items():
            setattr(trainer.args, name, value)
        return int(trainer._micro_batches())

    assert [window(2, 4), window(4, 2), window(4, 4), window(2, 3)] == [2, 2, 4, 1]
    assert window(4, 4, loss_type="bnpo") == window(4, 4, entropy_coef=0.1) == 1
