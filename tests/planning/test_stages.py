"""The time of a stage: every row adds up, and what is given is taken as it was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plans import LADDER, gpt2, planned

RECOMPUTED = ", max_steps: 1000, gradient_checkpointing: true"
PEAK = 8 * 312e12  # of 8 A100s, by the data sheet
FLOPS = 6 * 124_439_808 + 6 * 12 * 768 * 1024  # of a token of 124M, by llm.c's formula


def small(args: str = RECOMPUTED) -> str:
    """GPT-2 124M for 1,000 steps of 524,288 tokens."""
    return gpt2(12, 768, 12, "    tokens_per_step: 524288\n", args)


@pytest.mark.parametrize("given", [{}, {"tokens_per_second": 1e6}, {"mfu": 0.4}])
@pytest.mark.parametrize("args", [", max_steps: 1000", RECOMPUTED])
def test_every_row_adds_up(given: dict[str, Any], args: str, tmp_path: Path) -> None:
    """Tokens/s shown x hours are the tokens; the MFU shown is the share of the peak they take."""
    found = planned(tmp_path, small(args) + LADDER, **given)
    rows = [stage for stage in found.stages if stage.hours is not None]
    assert [stage.name for stage in rows] == ["pretrain", "sft", "reward", "dpo", "ppo", "grpo"]
    for stage in rows:
        rate = stage.speed.tokens_per_second
        assert rate * stage.hours * 3600 == pytest.approx(stage.tokens), stage.name
        assert stage.speed.mfu == pytest.approx(rate * stage.flops_per_token / PEAK), stage.name


def test_a_speed_that_was_given_holds_the_recomputation(tmp_path: Path) -> None:
    """Tokens/s are measured with it; and MFU counts the model's FLOPs, so it fixes tokens/s."""
    tokens = 1000 * 524288
    by_rate = planned(tmp_path, small(), tokens_per_second=1e6)["pretrain"]
    assert by_rate.hours * 3600 == pytest.approx(tokens / 1e6)
    by_mfu = planned(tmp_path, small(), mfu=0.4)["pretrain"]
    assert by_mfu.hours * 3600 == pytest.approx(tokens * FLOPS / (0.4 * PEAK))
    assert not any("recomputed" in note for note in by_rate.notes + by_mfu.notes)


@pytest.mark.parametrize("hardware", ["8xA100", "4xA100"], ids=["published", "predicted"])
def test_recomputation_is_a_forward_pass_more(hardware: str, tmp_path: Path) -> None:
    """Forward, backward twice that, and forward again: four thirds of the time."""
    plain = planned(tmp_path, small(", max_steps: 1000"), hardware)["pretrain"]
    again = planned(tmp_path, small(), hardware)["pretrain"]
    assert again.hours == pytest.approx(plain.hours * 4 / 3)
    assert again.speed.mfu == pytest.approx(plain.speed.mfu * 3 / 4)
    assert any("recomputed" in note for note in again.notes)


def test_a_model_that_only_looks_recomputes_nothing(tmp_path: Path) -> None:
    """Of DPO, in forward passes: 3 of the policy and 1 of the reference; 4 and 1."""
    data = "dataset: [{{tinyworld: preferences}}]"
    dpo = f"  dpo: {{{{model: openai-community/gpt2, {data}, args: {{args}}}}}}\n"
    plain = "{max_steps: 10, bf16: true}"
    again = "{max_steps: 10, bf16: true, gradient_checkpointing: true}"
    hours = [planned(tmp_path, dpo.format(args=args))["dpo"].hours for args in (plain, again)]
    assert hours[1] / hours[0] == pytest.approx(5 / 4)
