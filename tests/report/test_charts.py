"""Charts: what trainers log under TRL's names is found, in its chart, as it was logged last."""

from __future__ import annotations

import re

import pytest
import upper_run

from llmkit.report.charts import charts, points
from llmkit.report.curves import COLOURS


@pytest.mark.parametrize(
    ("stage", "title", "names"),
    [
        (
            "ppo",
            "reward",
            {
                "reward",
                "objective/rlhf_reward",
                "objective/scores",
                "rewards/reward/mean",
                "rewards/tinyworld_answers/mean",
            },
        ),
        ("ppo", "KL to the reference (nats)", {"objective/kl"}),
        ("ppo", "KL of the updates (nats)", {"policy/approxkl_avg"}),
        ("ppo", "value model's explained variance", {"val/explained_variance"}),
        ("ppo", "clipped (share)", {"policy/clipfrac_avg", "val/clipfrac_avg"}),
        ("grpo", "reward", {"reward", "rewards/tinyworld_sums/mean"}),
        ("grpo", "KL to the reference (nats)", {"kl"}),
        ("grpo", "entropy of a token (nats)", {"entropy"}),
        ("ppo", "entropy of a token (nats)", {"entropy", "policy/entropy_avg"}),
        ("ppo", "entropy of a completion (nats)", {"objective/entropy"}),
        ("ppo", "KL coefficient", {"objective/kl_coef"}),
        ("reward", "preferred answers told (share)", {"accuracy", "eval_accuracy"}),
        ("reward", "margin", {"margin", "eval_margin"}),
        ("dpo", "preferred answers told (share)", {"rewards/accuracies"}),
        ("dpo", "margin", {"rewards/margins"}),
        ("dpo", "reward of the chosen and the rejected", {"rewards/chosen", "rewards/rejected"}),
    ],
)
def test_names_of_trl_stand_in_their_charts(stage: str, title: str, names: set[str]) -> None:
    drawn = {chart.title: chart for chart in charts(list(upper_run.LOGS[stage]()))}
    assert set(drawn[title].last) == names
    assert drawn[title].svg.count("<polyline") + drawn[title].svg.count("<circle") == len(names)


def test_last_points_are_those_of_the_log() -> None:
    drawn = {chart.title: chart for chart in charts(list(upper_run.grpo_log()))}
    assert drawn["reward"].last == {
        "reward": pytest.approx(0.7),
        "rewards/tinyworld_sums/mean": pytest.approx(0.7),
    }
    assert drawn["KL to the reference (nats)"].last == {"kl": pytest.approx(0.3)}


def test_a_step_logged_again_after_a_resume_counts_as_it_was_last() -> None:
    log = [{"step": 2, "loss": 9.0}, {"step": 1, "loss": 3.0}, {"step": 2, "loss": 1.0}]
    log += [{"step": 3, "loss": None}, {"step": "x", "loss": 1.0}, {"loss": 5.0}]  # type: ignore[dict-item]
    assert points(log, "loss") == [(1.0, 3.0), (2.0, 1.0)]


def test_series_without_a_colour_are_named() -> None:
    row = {f"rewards/judge_{n}/mean": 1.0 for n in range(COLOURS + 2)}
    (chart,) = charts([{"step": 1, **row}, {"step": 2, **row}])
    assert chart.left_out == [f"rewards/judge_{n}/mean" for n in (COLOURS, COLOURS + 1)]
    assert len(re.findall("<polyline", chart.svg)) == COLOURS


def test_nothing_finite_is_no_chart() -> None:
    assert charts([{"step": 1, "loss": float("nan")}, {"step": 1, "unheard_of": 1.0}]) == []
