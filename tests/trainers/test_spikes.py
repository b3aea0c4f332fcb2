"""Updates that stand far out are left out, recorded, and judged alike after a resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from test_guard import GuardedTrainer, copy_of, trainer_in

from llmkit.trainers.pretrain_settings import SkipSpikes
from llmkit.trainers.session import train
from llmkit.trainers.spikes import SpikeWatch


def watch(sigma: float = 3.0, window: int = 8) -> SpikeWatch:
    return SpikeWatch(SkipSpikes(sigma=sigma, window=window))


def test_the_rule_by_hand() -> None:
    """Four losses 1, 2, 1, 2: mean 1.5, sample deviation 0.577; three of them above is 3.232."""
    for loss, spike in ((3.22, False), (3.24, True)):
        seen = watch()
        assert not any(seen.spike(value, 1.0 + value) for value in (1.0, 2.0, 1.0, 2.0))
        assert seen.spike(loss, 2.0) is spike
        assert seen.skipped == spike


def test_nothing_is_judged_before_half_a_window_and_low_is_no_spike() -> None:
    seen = watch()
    assert not any(seen.spike(value, 1.0) for value in (1.0, 1.1, 900.0))
    assert not seen.spike(1.0, 1.0)
    assert not seen.spike(-900.0, 1.0)


def test_the_gradient_alone_may_spike() -> None:
    seen = watch()
    for value in (1.0, 2.0, 1.0, 2.0):
        seen.spike(1.0 + value / 10, value)
    assert seen.spike(1.1, 50.0)


def test_what_stays_up_there_is_soon_no_spike() -> None:
    seen = watch(window=6)
    for step in range(6):
        seen.spike(1.0 + step % 2 / 10, 1.0)
    found = [seen.spike(9.0 + step % 2 / 10, 1.0) for step in range(6)]
    assert found[0] and not found[-1]


def test_the_state_survives_a_checkpoint_exactly(tmp_path: Path) -> None:
    seen = watch()
    for step in range(20):
        seen.spike(1 / (step + 3), 1 / 3 + step)
    seen.save(tmp_path)
    again = watch()
    again.load(tmp_path)
    assert (again.losses, again.norms, again.skipped) == (seen.losses, seen.norms, seen.skipped)


@pytest.mark.parametrize(
    ("given", "what"),
    [({"sigma": 0.0}, "sigma"), ({"window": 3}, "window"), ({"sigma": -1.0}, "sigma")],
)
def test_settings_out_of_range(given: dict[str, float], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        SkipSpikes(**given)  # type: ignore[arg-type]


def spoil(trainer: GuardedTrainer, at_step: int) -> None:
    """At that step one gradient is a thousand times what it was."""

    def larger(gradient: torch.Tensor) -> torch.Tensor:
        return gradient * 1000 if trainer.state.global_step == at_step else gradient

    trainer.model.transformer.ln_f.bias.register_hook(larger)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_spikes_update_is_left_out_of_weights_and_moments(
    tmp_path: Path, optimizer: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = trainer_in(
        tmp_path,
        optimizer=optimizer,
        spikes=watch(sigma=20.0),
        args={"max_steps": 8, "learning_rate": 0.01, "save_strategy": "no"},
    )
    spoil(trainer, at_step=6)
    states: list[dict[str, torch.Tensor]] = []
    inner = trainer.leave_out_update

    def leave_out_update() -> None:
        states.append(copy_of(trainer.model))
        inner()

    trainer.leave_out_update = leave_out_update  # type: ignore[method-assign]
    before_last: list[dict[str, torch.Tensor]] = []
    step_of = trainer._judge

    def judge(*args: object) -> None:
        before_last.append(copy_of(trainer.model))
        step_of(*args)  # type: ignore[arg-type]

    trainer._judge = judge  # type: ignore[method-assign, assignment]
    figures = train(trainer)
    assert figures["skipped_steps"] == 1 and figures["steps"] == 8
    # The weights before step 8 are those before step 7, whose update was left out.
    for name, value in before_last[7].items():
        assert torch.equal(value, before_last[6][name]), name
    assert any(not torch.equal(before_last[6][n], before_last[5][n]) for n in before_last[5])
    rows = [json.loads(line) for line in (tmp_path / "logs/train.jsonl").read_text().splitlines()]
    (told,) = (row for row in rows if "skipped_loss" in row)
    assert told["step"] == 7 and told["skipped_grad_norm"] > 10 and len(told["skipped_batch"]) == 12
    assert "step 7 is left out" in caplog.text
