"""The charts of a training, from what its trainer logged under Hugging Face's and TRL's names.

Sources of the names: https://huggingface.co/docs/trl/logging and, for PPO's, TRL up to 1.12.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from llmkit.report.curves import COLOURS, Points, curve

# Title of a chart -> the names of what stands in it (`*` for any part of a name). Each is drawn
# where it was logged, and so is its twin of the evaluation, `eval_` before the name.
CHARTS = {
    "loss": ("loss",),
    "bits per byte": ("bits_per_byte",),
    "reward": ("reward", "objective/rlhf_reward", "objective/scores", "rewards/*/mean"),
    "reward's spread": ("reward_std", "rewards/*/std"),
    "groups of equal reward (share)": ("frac_reward_zero_std",),
    "KL to the reference (nats)": ("kl", "objective/kl"),
    "KL of the updates (nats)": ("policy/approxkl_avg",),
    "preferred answers told (share)": ("accuracy", "rewards/accuracies"),
    "margin": ("margin", "rewards/margins"),
    "reward of the chosen and the rejected": ("rewards/chosen", "rewards/rejected"),
    "lowest, mean and highest reward": ("min_reward", "mean_reward", "max_reward"),
    "losses of policy and value model": ("loss/policy_avg", "loss/value_avg", "policy_loss"),
    "value model's explained variance": ("val/explained_variance*",),
    "probability ratio": ("val/ratio",),
    "clipped (share)": ("policy/clipfrac_avg", "val/clipfrac_avg", "clip_ratio/region_mean"),
    "KL coefficient": ("objective/kl_coef",),
    "entropy of a token (nats)": ("entropy", "policy/entropy_avg"),
    "entropy of a completion (nats)": ("objective/entropy",),
    "completion length (tokens)": ("completions/mean_length", "completions/max_length"),
    "cut off before their end (share)": ("completions/clipped_ratio",),
    "token accuracy": ("mean_token_accuracy",),
    "gradient norm": ("grad_norm",),
    "learning rate": ("learning_rate",),
}
EVALUATION = "eval_"


@dataclass(frozen=True)
class Chart:
    """A drawing, and what its last points are: label -> value.

    `left_out` names the series for which there was no colour left.
    """

    title: str
    svg: str
    last: dict[str, float]
    left_out: list[str]


def charts(log: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """A chart for each of CHARTS of which the trainer logged something finite."""
    logged = dict.fromkeys(name for row in log for name in row)
    drawn = []
    for title, patterns in CHARTS.items():
        found = {name: points(log, name) for name in matching(logged, patterns)}
        series = {name: line for name, line in found.items() if line}
        shown = dict(list(series.items())[:COLOURS])
        svg = curve(shown, "step", title)
        if svg:
            last = {name: line[-1][1] for name, line in shown.items()}
            drawn.append(Chart(title, svg, last, list(series)[COLOURS:]))
    return drawn


def matching(names: Mapping[str, None], patterns: Sequence[str]) -> Iterator[str]:
    """The names, in the order of the patterns and then of the log, evaluation's after training's.

    `rewards/*/mean` is any reward function's: its name may hold anything.
    """
    for prefix in ("", EVALUATION):
        for pattern in patterns:
            yield from (name for name in names if fnmatchcase(name, prefix + pattern))


def points(log: Sequence[Mapping[str, Any]], name: str) -> Points:
    """(step, value) by rising step. A step that was logged twice (before and after a resume)
    counts as it was logged last."""
    by_step = {
        float(row["step"]): float(row[name])
        for row in log
        if isinstance(row.get(name), int | float) and isinstance(row.get("step"), int)
    }
    return sorted(by_step.items())
