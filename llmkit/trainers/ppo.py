"""`PPOTrainer`: PPO with a value model, on the rollouts of `trl.GRPOTrainer`.

    trainer = PPOTrainer(
        model=model, args=PPOConfig(output_dir="policy"), reward_funcs=[reward],
        train_dataset=prompts, processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model()  # the policy, and its value model in `value_model/`

TRL has had no PPO of its own since 1.13. Generation, reward functions, logging and the order of
prompts are `GRPOTrainer`'s here, by way of `Rollouts`; the groups are not, and so neither are its
advantages and its loss. The equations stand in `advantages.py`, the metrics in `ppo_metrics.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel
from trl import GRPOTrainer

from llmkit.metrics.intervals import mean
from llmkit.model import load_model
from llmkit.ranks import current
from llmkit.stage import Context
from llmkit.trainers.advantages import KlController, policy_losses, value_losses
from llmkit.trainers.critic import fresh_critic
from llmkit.trainers.ppo_config import PPOConfig
from llmkit.trainers.ppo_metrics import update_figures, update_sums
from llmkit.trainers.ppo_rollout import Batch, Rollout
from llmkit.trainers.ppo_scoring import ScoredRollouts

FIRST_RATIO, KL_WITHIN = "first_ratio", "kl_within"
RATIO_BOUND = 1e-4  # room for rounding alone; dropout left on gives 0.26
STATE = "ppo.json"  # in each checkpoint
EXPLAINED = "val/explained_variance"


@dataclass
class Measured:
    """Of each prompt's completion, its score, its rewards by function, and its nats away from the
    reference."""

    scores: list[float] = field(default_factory=list)
    rewards: dict[str, list[float]] = field(default_factory=dict)
    kl: list[float] = field(default_factory=list)
    ended: int = 0

    @property
    def mean_kl(self) -> float:
        return sum(self.kl) / len(self.kl)


class PPOTrainer(ScoredRollouts, GRPOTrainer):
    """PPO; takes GRPOTrainer's arguments by keyword, without tools and environments.

    Args:
        model: the policy to begin with, and the reference; or its folder or Hub id.
        args: PPOConfig.
        reward_funcs: reward models and functions, as GRPOTrainer takes them.
        train_dataset: rows with `prompt` and the columns that the reward functions read.
        value_model: a token classifier with one label, trained along; a new one that begins as
            `model` where there is none.
        kl_bound: nats a completion; a rollout further from the reference stops the training.
        context: whose gates are used and where logs go; `args.output_dir` where there is none.
        peft_config: with it, an adapter of the policy is trained, and all of the value model.
    """

    _tag_names = ["ppo"]
    _name = "PPO"

    def __init__(
        self,
        *,
        model: PreTrainedModel | str,
        args: PPOConfig,
        value_model: PreTrainedModel | None = None,
        kl_bound: float | None = None,
        context: Context | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(model, str):
            model = load_model(model)
        if isinstance(model, PeftModel):
            raise ValueError("give PPOTrainer the base model and a peft_config, not a PeftModel")
        for name in ("tools", "rollout_func", "environment_factory"):
            if kwargs.get(name) is not None:
                raise ValueError(f"PPOTrainer writes one answer to each prompt: it takes no {name}")
        super().__init__(
            model=model,
            args=args,
            value_model=fresh_critic(model) if value_model is None else value_model,
            context=context or Context(name="ppo", out=Path(args.output_dir), seed=args.seed),
            **kwargs,
        )
        self.controller = KlController(args.kl_coef, args.kl_target, args.kl_horizon)
        self.kl_bound = kl_bound
        self.first_ratio = 0.0  # the largest |ratio - 1| at the first update of any rollout
        self._first_ratios: list[Tensor] = []  # of the micro-batches of such an update
        self._failed: set[str] = set()  # gates that did not pass, under `gates: warn`
        self._sums: list[Tensor] = []  # of the micro-batches that this rollout has gone through
        self._rollout: Rollout | None = None
        self._epoch_batches: list[Batch] = []

    # A rollout ----------------------------------------------------------------------------------

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """The next micro-batch: of new completions where those before are used up."""
        if not self.model.training:
            rollout, _ = self._generate_and_score_completions(generation_batch)
            return self._cut(rollout, [[torch.arange(len(rollout))]])[0]
        at = self._step % self.args.steps_per_generation
        if self.rollout_used_up() or self._rollout is None:
            self._rollout, order = self._generate_and_score_completions(generation_batch)
            self.meter.tokens += int(self._rollout.widths.sum())
            self._epoch_batches = self._cut(self._rollout, order)
        elif at == 0:  # the next epoch
            self._epoch_batches = self._cut(self._rollout, self._order(self._rollout))
        self._batches[-1] = self._epoch_batches[at]  # the guard names tensors, not rows
        return self._epoch_batches[at]

    def _cut(self, rollout: Rollout, order: Sequence[Sequence[Tensor]]) -> list[Batch]:
        """The micro-batches, each with `tokens`: how many its update has, as a mean over ranks."""
        widths = [sum(int(rollout.widths[rows, 1].sum()) for rows in update) for update in order]
        tokens = self._total(torch.tensor(widths, dtype=torch.float32, device=self.args.device))
        tokens = tokens / self.accelerator.num_processes
        return [
            rollout.batch(rows) | {"tokens": tokens[number]}
            for number, update in enumerate(order)
            for rows in update
        ]

    # An update ------------------------------------------------------------------------------------

    def _compute_loss(self, model: Any, inputs: Batch) -> Tensor:
        """The share of a micro-batch in its update's loss: means over the update's tokens."""
        settings, mask = self.args, inputs["completion_mask"]
        log_probs, _ = self._log_probs(model, inputs)
        policy, ratio, clipped = policy_losses(
            log_probs, inputs["log_probs"], inputs["advantages"], settings.cliprange
        )
        value, value_clipped = value_losses(
            self.values(inputs), inputs["values"], inputs["returns"], settings.cliprange_value
        )
        if self.model.training:
            moved = (log_probs.detach() - inputs["log_probs"]).square() / 2
            per_token = (policy, value, moved, clipped, value_clipped, ratio)
            self._sums.append(update_sums(inputs, per_token))
            steps = settings.steps_per_generation * settings.num_iterations
            if self._step % steps < settings.gradient_accumulation_steps:
                self._first_ratios.append(((ratio.detach() - 1) * mask).abs().amax())
        losses: Tensor = ((policy + settings.vf_coef * value) * mask).sum() / inputs["tokens"]
        return losses

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        if self.rollout_used_up():
            sums, self._sums = self._sums, []
            self._note(update_figures(sums, self._total))
        return loss

    # Gates ----------------------------------------------------------------------------------------

    def check_loss(self, loss: float) -> None:
        """Before the first update of a rollout, the policy is still the one that drew it."""
        super().check_loss(loss)
        if self._first_ratios:
            worst = self.accelerator.gather(torch.stack(self._first_ratios)).max()
            self._first_ratios = []
            self.first_ratio = max(self.first_ratio, float(worst))
            self._gate(FIRST_RATIO, self.first_ratio <= RATIO_BOUND)

    def _after_rollout(self, kl: float) -> None:
        if not self.model.training:
            return
        if self.kl_bound is not None:
            self._gate(KL_WITHIN, kl <= self.kl_bound, kl)
        self.controller.update(kl, self.args.generation_batch_size)

    def _gate(self, name: str, passed: bool, kl: float = 0.0) -> None:
        """Stop where a gate does not pass. That it passed is recorded once, by `record_gates`."""
        if not passed and name not in self._failed:
            self._failed.add(name)
            self.context.gate(name, False, *self._wording(name, kl))

    def record_gates(self, kl: float) -> None:
        """When the training has ended with `kl` nats a completion: what passed all along."""
        for name in (FIRST_RATIO, KL_WITHIN)[: 1 if self.kl_bound is None else 2]:
            if name not in self._failed:
                passed = name != KL_WITHIN or kl <= (self.kl_bound or 0.0)
                self.context.gate(name, passed, *self._wording(name, kl))

    def _wording(self, name: str, kl: float) -> tuple[object, str, str]:
        """What was measured, the bound, the remedy."""
        if name == FIRST_RATIO:
            remedy = "the policy computes other log-probabilities in training: look for noise in it"
            return self.first_ratio, f"|ratio - 1| at most {RATIO_BOUND} at first updates", remedy
        remedy = "raise kl_coef or set kl_target, lower learning_rate, or allow more with kl_bound"
        return round(kl, 3), f"at most {self.kl_bound} nats a completion", remedy

    # Checkpoints ----------------------------------------------------------------------------------

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._save_checkpoint(*args, **kwargs)
        if self.args.should_save:
            state = {"kl_coef": self.controller.coefficient, "first_ratio": self.first_ratio}
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            (folder / STATE).write_text(json.dumps(state), encoding="utf-8")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        text = (Path(resume_from_checkpoint) / STATE).read_text(encoding="utf-8")
        state = json.loads(text)
        self.controller.coefficient, self.first_ratio = state["kl_coef"], state["first_ratio"]

    # Measuring ------------------------------------------------------------------------------------

    def measure(self, rows: Sequence[dict[str, Any]]) -> Measured:
        """One completion of each row by the policy as it is; with the same numbers each time.

        Of several processes each draws its own, and the first one's count for all.
        """
        found, training, self._measurements = Measured(), self.model.training, 0
        at_once = self.args.per_device_train_batch_size * self.args.steps_per_generation
        self.model.eval()
        for start in range(0, len(rows), at_once):
            rollout, _ = self._generate_and_score_completions(list(rows[start : start + at_once]))
            found.scores += rollout.scores.tolist()
            for name, column in rollout.rewards.items():
                found.rewards.setdefault(name, []).extend(column.tolist())
            found.kl += rollout.kl.tolist()
            found.ended += rollout.ended
        self.model.train(training)
        self._metrics["eval"].clear()
        return current().told(found)

    def figures(self, before: Measured, after: Measured) -> dict[str, float]:
        """What the training came to, on the same prompts before and after it.

        Gains with their 95 % intervals, prompt by prompt, over all and for each reward function.
        """
        explained = [row[EXPLAINED] for row in self.state.log_history if EXPLAINED in row]
        last = explained[-max(1, len(explained) // 10) :]
        return {
            "reward_before": mean(before.scores).value,
            "reward_after": mean(after.scores).value,
            **gain_figures("reward_gain", before.scores, after.scores),
            **{
                key: value
                for name, scores in (before.rewards.items() if len(before.rewards) > 1 else ())
                for key, value in gain_figures(
                    f"reward_gain/{name}", scores, after.rewards[name]
                ).items()
            },
            "kl": after.mean_kl,
            "kl_coef": self.controller.coefficient,
            "ended": after.ended / len(after.scores),
            "generation_seconds": round(self.generation_seconds, 2),
        } | ({"explained_variance": sum(last) / len(last)} if last else {})


def gain_figures(name: str, before: Sequence[float], after: Sequence[float]) -> dict[str, float]:
    """The mean gain of paired figures, and its 95 % interval."""
    gain = mean([b - a for a, b in zip(before, after, strict=True)])
    return {name: gain.value, f"{name}_low": gain.low, f"{name}_high": gain.high}
