"""`rloo`: the same keys and laws as `grpo`, by TRL's RLOOTrainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_policy import context_in, make_inputs, tiny_stage
from tiny_training import artefacts

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder


def test_what_is_rewarded_becomes_likely(inputs: Path, tmp_path: Path) -> None:
    args = {
        "max_steps": 40,
        "per_device_train_batch_size": 32,
        "steps_per_generation": 1,
        "num_iterations": 1,
        "num_generations": 8,
        "learning_rate": 1e-2,
        "beta": 0.0,
    }
    figures = tiny_stage("rloo", args=args).run(context_in(inputs, tmp_path))
    assert 0.3 < figures["reward_first"] < 0.8 and figures["reward_last"] > 0.95


def test_a_broken_off_training_ends_in_the_same_bytes(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a reference, whose weights are in no checkpoint."""
    from llmkit.trainers.display import ShowProgress

    stage = tiny_stage("rloo", args={"max_steps": 12, "beta": 0.1})
    figures = stage.run(context_in(inputs, tmp_path / "whole"))
    assert "kl" in figures
    inner = ShowProgress.on_step_end

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        inner(self, args, state, control, **kwargs)
        if state.global_step == 10:
            raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(ShowProgress, "on_step_end", on_step_end)
        with pytest.raises(RuntimeError, match="power cut"):
            stage.run(context_in(inputs, tmp_path / "broken"))
    stage.run(context_in(inputs, tmp_path / "broken"))
    assert artefacts(tmp_path / "broken") == artefacts(tmp_path / "whole")
