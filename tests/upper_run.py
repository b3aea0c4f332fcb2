"""A finished run of the upper rungs, written as their stages write: the files that people look at.

python tests/upper_run.py FOLDER
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LADDER = {  # stage -> parents
    "pretrain": [],
    "sft": ["pretrain"],
    "reward": ["sft"],
    "dpo": ["sft"],
    "ppo": ["sft", "reward"],
    "grpo": ["sft"],
    "evaluate": ["pretrain", "sft", "dpo", "ppo", "grpo"],
}
CHATS = {"sft": 0.42, "dpo": 0.43, "ppo": 0.46, "grpo": 0.61}  # how often each gets a sum right
QUESTION = [{"role": "user", "content": "How much is 57 plus 17?"}]


def write_run(run: Path) -> Path:
    """Everything but the models themselves."""
    for name, parents in LADDER.items():
        write_stage(run, name, parents=parents, metrics=METRICS.get(name, {}))
    for name, rows in LOGS.items():
        write_lines(run / name / "logs" / "train.jsonl", rows())
    for name in ("ppo", "grpo"):
        write_lines(run / name / "logs" / "completions.jsonl", completions())
    (run / "evaluate" / "metrics.json").write_text(json.dumps(evaluation()))
    write_lines(run / "evaluate" / "samples.jsonl", samples())
    resolved = {"name": "upper", "seed": 5, "stages": {"sft": {"args": {"learning_rate": 1e-4}}}}
    record = {"recipe": "upper", "stages": {n: n for n in LADDER}, "seed": 5, "resolved": resolved}
    (run / "run.json").write_text(json.dumps(record))
    return run


def write_stage(run: Path, name: str, **record: Any) -> Path:
    folder = run / name
    (folder / "logs").mkdir(parents=True)
    whole = {"stage": name, "kind": name, "recipe": "upper", "seconds": 30.0, "parents": []}
    whole |= {"key": "", "parts": {}, "input_files": {}, "metrics": {}, "tokens": None}
    whole |= {"artefacts": {}, "complete": True, "resumed": False, "gates": []}
    (folder / "stage.json").write_text(json.dumps(whole | record))
    return folder


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def cell(value: float, half: float = 0.03) -> dict[str, float]:
    return {"value": value, "low": max(value - half, 0), "high": min(value + half, 1), "n": 1000}


METRICS: dict[str, dict[str, Any]] = {
    "reward": {
        "accuracy": 0.934,
        "accuracy_low": 0.91,
        "accuracy_high": 0.952,
        "mean_margin": 2.31,
        "accuracy_by_kind": {"form": cell(0.985, 0.01), "unknown": cell(0.871)},
        "length_baseline": 0.61,
        "length_baseline_low": 0.58,
        "length_baseline_high": 0.64,
        "length_rule": "shorter wins",
    },
    "ppo": {"steps": 40, "tokens": 81920, "objective/kl": 3.2},
}


def ppo_log() -> Iterable[dict[str, Any]]:
    """PPO's names as TRL had them, beside those of its GRPOTrainer underneath."""
    for step in range(1, 41):
        gain = 1 - math.exp(-step / 15)
        yield {
            "step": step,
            "loss": 0.1 - 0.05 * gain,
            "reward": 0.2 + 1.4 * gain,
            "reward_std": 0.7,
            "rewards/reward/mean": 0.4 + 2 * gain,
            "rewards/tinyworld_answers/mean": 0.7 + 0.1 * gain,
            "objective/kl": 3.2 * gain,
            "objective/scores": 0.2 + 1.4 * gain,
            "objective/rlhf_reward": 0.2 + 1.2 * gain,
            "objective/kl_coef": 0.05,
            "objective/entropy": 21.0 - 8 * gain,
            "policy/entropy_avg": 1.1 - 0.4 * gain,
            "policy/approxkl_avg": 0.01,
            "policy/clipfrac_avg": 0.1,
            "val/clipfrac_avg": 0.02,
            "val/ratio": 1.0,
            "val/explained_variance": gain - 0.2,
            "loss/policy_avg": -0.01,
            "loss/value_avg": 0.5 - 0.3 * gain,
            "entropy": 1.2 - 0.4 * gain,
            "completions/mean_length": 21.0 - 3 * gain,
            "completions/clipped_ratio": 0.0,
            "learning_rate": 1e-5 * (1 - step / 41),
        }


def grpo_log() -> Iterable[dict[str, Any]]:
    for step in range(1, 31):
        yield {
            "step": step,
            "reward": 0.4 + step / 100,
            "reward_std": 0.3 - step / 200,
            "rewards/tinyworld_sums/mean": 0.4 + step / 100,
            "frac_reward_zero_std": 0.2,
            "kl": 0.01 * step,
            "entropy": 0.8,
        }


def reward_log() -> Iterable[dict[str, Any]]:
    for step in range(10, 60, 10):
        yield {"step": step, "loss": 0.69 / step * 10, "accuracy": 0.6 + step / 200}
        yield {"step": step, "margin": step / 20, "mean_reward": 0.1, "min_reward": -2.0}
    yield {"step": 50, "eval_accuracy": 0.93, "eval_margin": 2.4, "eval_loss": 0.2}


def dpo_log() -> Iterable[dict[str, Any]]:
    for step in range(10, 60, 10):
        yield {
            "step": step,
            "loss": 0.69 - step / 200,
            "rewards/chosen": step / 50,
            "rewards/rejected": -step / 40,
            "rewards/accuracies": 0.5 + step / 120,
            "rewards/margins": step / 25,
        }


LOGS = {"ppo": ppo_log, "grpo": grpo_log, "reward": reward_log, "dpo": dpo_log}


def completions() -> Iterable[dict[str, Any]]:
    for step in range(1, 41):
        for row in range(5):
            said = f"answer {row} of step {step}"
            parts = {"reward": step / 80, "tinyworld_answers": step / 80}
            shown = {"step": step, "prompt": QUESTION, "completion": said}
            yield shown | {"reward": step / 40, "rewards": parts}


def evaluation() -> dict[str, Any]:
    """The models stand in another order than the recipe's stages."""
    metrics: dict[str, Any] = {}
    for name, sums in reversed(CHATS.items()):
        metrics[name] = {
            "tinyworld_cloze/accuracy": cell(0.87),
            "tinyworld_facts/accuracy": cell(0.93),
            "tinyworld_facts/refused": cell(0.05, 0.01),
            "tinyworld_facts/ended": cell(1.0),
            "tinyworld_unknown/refused": cell(0.94),
            "tinyworld_unknown/ended": cell(1.0),
            "tinyworld_sums/accuracy": cell(sums),
            "tinyworld_sums/ended": cell(1.0),
        }
    return metrics | {"pretrain": {"tinyworld_cloze/accuracy": cell(0.998, 0.001)}}


def samples() -> Iterable[dict[str, Any]]:
    for name, sums in CHATS.items():
        right = sums > 0.45
        yield {
            "model": name,
            "task": "tinyworld_sums",
            "prompt": QUESTION,
            "answer": "74",
            "completion": "7 + 7 = 14, 1 + 5 + 1 = 7, so 74." if right else "So 94.",
            "ended": True,
            "scores": {"ended": 1.0, "accuracy": float(right)},
        }


if __name__ == "__main__":
    write_run(Path(sys.argv[1]))
