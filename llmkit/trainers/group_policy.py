"""The trainers of `grpo` and `rloo`: several completions of each prompt, compared with each other.

Where all completions of a prompt earn the same, there is nothing to compare and nothing is learnt,
without a word (open-r1 #255, trl #3452). So the starting policy is asked first.

Sources: GRPO https://arxiv.org/abs/2402.03300, RLOO https://arxiv.org/abs/2402.14740
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from random import Random
from statistics import fmean
from typing import Any, ClassVar

from trl import GRPOTrainer, RLOOTrainer

from llmkit.progress import Progress
from llmkit.ranks import current
from llmkit.trainers.rollouts import Rollouts

GATE = "reward_spread"
GATE_PROMPTS = 32
BOUND = "a group of completions of one prompt whose rewards differ"
SOLVED = "all are right: the task is solved, so take a harder one"
HOPELESS = (
    "none is right: fine-tune the model on such answers first (sft), take easier tasks, or raise "
    "args.temperature"
)
CURVES = {
    "reward_last": "reward",
    "completion_tokens": "completions/mean_length",
    "flat_groups": "frac_reward_zero_std",
}
ALIKE = "each prompt gets one and the same answer: raise args.temperature"


class GroupPolicy(Rollouts):
    """Mixin. `best` is the highest reward that there is, None where nobody knows."""

    sorts_rows: ClassVar[bool] = True

    def __init__(self, *args: Any, best: float | None = None, **kwargs: Any) -> None:
        self.best = best
        super().__init__(*args, **kwargs)

    def train(self, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:
        if resume_from_checkpoint is None:
            self._measure_spread()
        return super().train(  # type: ignore[misc]
            resume_from_checkpoint=resume_from_checkpoint, **kwargs
        )

    def recall_gates(self) -> None:
        """The spread is measured once, at the very start."""
        if self._spread_note.is_file():
            self._gate_spread(**json.loads(self._spread_note.read_text(encoding="utf-8")))

    @property
    def _spread_note(self) -> Any:
        return self.context.scratch / f"{GATE}.json"

    def _gate_spread(self, mixed: int, groups: int, low: float, mean: float, high: float) -> None:
        measured = f"{mixed} of {groups} groups (mean reward {mean:.3f})"
        remedy = ALIKE if high > low else SOLVED if mean == self.best else HOPELESS
        self.context.gate(GATE, mixed > 0, measured, BOUND, remedy)

    def _measure_spread(self) -> None:
        """Ask the starting policy, as training will; it leaves no trace in the random numbers."""
        rows: Any = self.train_dataset  # type: ignore[attr-defined]
        order = Random(f"{self.args.seed}:{GATE}").sample(
            range(len(rows)), min(GATE_PROMPTS, len(rows))
        )
        size = self.args.num_generations
        at_once = max(1, self.args.per_device_train_batch_size * self.args.steps_per_generation)
        found: list[float] = []
        asked = [rows[index] for index in order for _ in range(size)]
        with Progress(f"{self.context.name}: {GATE}", len(asked), "completions") as progress:
            for start in range(0, len(asked), at_once):
                part = asked[start : start + at_once]
                found += self.rewards_of(part, f"{GATE}:{start}")
                progress.update(len(part))
        found = [reward for part in current().gathered(found) for reward in part]
        groups = [found[start : start + size] for start in range(0, len(found), size)]
        note: dict[str, Any] = {
            "mixed": sum(max(group) - min(group) > 1e-6 for group in groups),
            "groups": len(groups),
            "low": min(found),
            "mean": sum(found) / len(found),
            "high": max(found),
        }
        if self.args.should_save:
            self._spread_note.write_text(json.dumps(note), encoding="utf-8")
        self._gate_spread(**note)

    def rewards_of(self, rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
        """The reward of one completion of each row, as this policy writes it now."""
        prompts = [row["prompt"] for row in rows]
        ids = self.drawn(self.prompts_to_ids(prompts), self.generator(key))
        tokenizer = self.processing_class  # type: ignore[attr-defined]
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        said: list[Any] = texts
        if not isinstance(prompts[0], str):
            said = [[{"role": "assistant", "content": text}] for text in texts]
        everyone = self._calculate_rewards(list(map(dict, rows)), prompts, said, ids)
        first = self.args.process_index * len(rows)
        by_function = everyone[first : first + len(rows)]
        self._pending_metrics.clear()  # type: ignore[attr-defined]
        self._pending_extra_logs.clear()  # type: ignore[attr-defined]
        weights = self.reward_weights.to(by_function.device)  # type: ignore[attr-defined]
        rewards: list[float] = (by_function * weights).sum(1).tolist()
        return rewards

    def figures(self) -> dict[str, float]:
        """What the curves came to: the first and the last tenth of `reward`, the end of others."""
        history = self.state.log_history
        figures = {"reward_first": first_tenth(history, "reward")}
        figures |= {name: last_tenth(history, key) for name, key in CURVES.items()}
        figures["ended"] = 1 - last_tenth(history, "completions/clipped_ratio")
        if self.beta:
            figures["kl"] = last_tenth(history, "kl")
        return figures | {"generation_seconds": round(self.generation_seconds, 2)}


def first_tenth(history: Sequence[Mapping[str, Any]], key: str) -> float:
    """Mean of the first tenth of a curve's points, of one at least."""
    points = [float(row[key]) for row in history if key in row]
    return fmean(points[: max(1, len(points) // 10)])


def last_tenth(history: Sequence[Mapping[str, Any]], key: str) -> float:
    return first_tenth(history[::-1], key)


class GRPO(GroupPolicy, GRPOTrainer):
    """TRL's GRPOTrainer."""


class RLOO(GroupPolicy, RLOOTrainer):
    """TRL's RLOOTrainer, which keeps no log-probabilities of the sampler."""

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        written = super()._generate_single_turn(*args, **kwargs)
        return written[0] if isinstance(written, tuple) else written
