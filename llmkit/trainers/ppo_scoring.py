"""`ScoredRollouts`: what PPO makes of completions before it learns from them.

Their scores, and for each token the log-probabilities of policy and reference, its value, its
reward, its advantage. (TRL's GRPOTrainer compares the completions of a group instead.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from trl.trainer.utils import use_adapter

from llmkit.errors import UserError
from llmkit.trainers.advantages import (
    KlController,
    generalized_advantages,
    masked_whiten,
    token_kl,
    token_log_probs,
    token_rewards,
)
from llmkit.trainers.critic_training import WithCritic
from llmkit.trainers.policy_forward import with_positions
from llmkit.trainers.ppo_metrics import rollout_figures
from llmkit.trainers.ppo_rollout import Batch, Rollout

LOGITS = 2**26  # floats at once; above, TRL's chunked head, which is slower, takes over


class ScoredRollouts(WithCritic):
    """Mixin in front of `trl.GRPOTrainer`, whose attributes it reads."""

    controller: KlController
    ref_model: Any
    reward_func_names: Any
    reward_weights: Any
    temperature: Any
    _generate: Any
    _logs: Any
    _metrics: Any
    _pending_extra_logs: Any
    _pending_metrics: Any
    _tokenizer: Any
    _measurements = 0  # rollouts drawn outside training since the last `measure`

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        """A `Rollout` with all that its updates need, and its order in the first epoch."""
        prompts = [row["prompt"] for row in inputs]
        prompt_ids, ids, _, completions, *_ = self._generate(prompts)
        scores, rewards = self._scores(inputs, prompts, completions, ids)
        rollout = Rollout(prompt_ids, ids, self._tokenizer.pad_token_id, self.args.device)
        order = self._order(rollout)
        for update in order:
            for rows in update:  # in the first epoch's own batches: its ratio is exactly 1
                rollout.put(rows, **self._scored(rollout.batch(rows)))
        rollout.scores, rollout.rewards = scores, rewards
        rollout.ended = sum(map(self.ends, ids))
        self._work_out(rollout)
        return rollout, order

    def _scores(
        self, inputs: list[dict[str, Any]], prompts: Any, completions: Any, ids: list[list[int]]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(B,) the weighted rewards of this rank's completions, less `missing_eos_penalty`.

        And (B,) what each function gave, by its name.
        """
        by_function = self._calculate_rewards(inputs, prompts, completions, ids)  # of all ranks
        first = self.accelerator.process_index * len(prompts)
        own = by_function[first : first + len(prompts)]
        self._check_finite(own, prompts)
        rewards = (by_function * self.reward_weights.to(by_function.device)).sum(1)
        self._note({"reward": float(rewards.mean()), "reward_std": spread(rewards)})
        for name, column in zip(self.reward_func_names, by_function.T, strict=True):
            self._note({f"rewards/{name}/mean": float(column.mean())})
            self._note({f"rewards/{name}/std": spread(column)})
            self._logs["rewards"][name].extend(column.tolist())
        self._logs["advantages"].extend(rewards.tolist())  # a column of TRL's table
        self._logs["prompt"].extend(gather_object(prompts))
        self._logs["completion"].extend(gather_object(completions))
        self._flush()
        unfinished = [not self.ends(completion) for completion in ids]
        penalty = self.args.missing_eos_penalty or 0.0
        scores = rewards[first : first + len(prompts)] - penalty * rewards.new_tensor(unfinished)
        return scores, dict(zip(self.reward_func_names, own.T, strict=True))

    def _check_finite(self, by_function: Tensor, prompts: Sequence[Any]) -> None:
        """A reward that is None or NaN must not count as 0."""
        for row, column in (~by_function.isfinite()).nonzero().tolist()[:1]:
            name, value = self.reward_func_names[column], float(by_function[row, column])
            what = f"gave {value} (or None) for the prompt {str(prompts[row])[:200]}"
            raise UserError(f"reward {name}", what, "return a finite number for each completion")

    def _flush(self) -> None:
        """What reward functions logged themselves, as means over all ranks."""
        for name in sorted(set(gather_object(list(self._pending_metrics)))):
            values = self._pending_metrics.get(name, [])
            sums = torch.tensor([sum(values), len(values)], device=self.args.device)
            total, count = self._total(sums).tolist()
            self._note({name: total / count})
        self._pending_metrics.clear()
        self._pending_extra_logs.clear()

    @torch.no_grad()
    def _scored(self, batch: Batch) -> dict[str, Tensor]:
        """(B, T) each: log-probabilities and values as they are now, and the reference's."""
        log_probs, entropy = self._log_probs(self.model, batch, entropy=True)
        reference, whole = self.ref_model, nullcontext()
        if reference is None:  # an adapter is all that is trained
            reference = self.model
            whole = use_adapter(self.accelerator.unwrap_model(self.model), None)
        with whole:
            of_reference, _ = self._log_probs(reference, batch)
        return {
            "log_probs": log_probs,
            "entropy": entropy,
            "reference": of_reference,
            "values": self.values(batch),
        }

    def _work_out(self, rollout: Rollout) -> None:
        """Rewards, advantages and returns of each token; their figures are noted."""
        settings, mask = self.args, rollout["completion_mask"]
        coefficient = self.controller.coefficient
        kl = token_kl(rollout["log_probs"], rollout["reference"], mask, settings.kl_estimator)
        rewards = token_rewards(rollout.scores, kl, mask, coefficient)
        if settings.whiten_rewards:
            rewards = masked_whiten(rewards, mask, shift_mean=False, total=self._total)
        advantages, returns = generalized_advantages(
            rollout["values"], rewards, mask, settings.gamma, settings.lam
        )
        rollout.tensors["advantages"] = masked_whiten(advantages, mask, total=self._total)
        rollout.tensors["returns"] = returns
        rollout.kl = kl.sum(1)
        figures = rollout_figures(rollout, coefficient, self._total)
        self._note(figures)
        self._after_rollout(figures["objective/kl"])

    def _order(self, rollout: Rollout) -> list[list[Tensor]]:
        """The rows of each update of an epoch, cut into micro-batches."""
        settings = self.args
        generator = self.generator("order", self.state.global_step)
        parts = settings.gradient_accumulation_steps
        return rollout.order(settings.num_mini_batches, parts, generator)

    def _next_generator(self) -> torch.Generator:
        """A measurement has numbers of its own: training draws as it would have without it."""
        if self.model.training:
            return super()._next_generator()
        self._measurements += 1
        return self.generator("measurement", self._measurements)

    def _after_rollout(self, kl: float) -> None:
        """For subclasses: sees the mean KL (nats a completion) of each rollout."""

    def _log_probs(self, model: Any, batch: Batch, entropy: bool = False) -> tuple[Tensor, Tensor]:
        """(B, T) log-probabilities of the completions' tokens, and entropies where asked for."""
        ids, mask, completion = (
            batch[name] for name in ("input_ids", "attention_mask", "completion_ids")
        )
        tokens = completion.shape[1]
        if completion.numel() * self.model.config.get_text_config().vocab_size > LOGITS:
            found = self._get_per_token_logps_and_entropies(
                model, ids, mask, tokens, compute_entropy=entropy
            )
            return found[0], found[1] if entropy else found[0]
        forward = with_positions(model) if self._takes_positions else model
        with self.accelerator.autocast():
            logits = forward(
                input_ids=ids, attention_mask=mask, logits_to_keep=tokens + 1, use_cache=False
            ).logits[:, :-1]
        return token_log_probs(logits, completion, self.temperature, entropy)

    def _total(self, values: Tensor) -> Tensor:
        """The sum over all ranks."""
        total: Tensor = self.accelerator.reduce(values, reduction="sum")
        return total

    def _note(self, figures: Mapping[str, float]) -> None:
        """Figures for the next line of the curve, which has their mean."""
        for name, value in figures.items():
            self._metrics["train" if self.model.training else "eval"][name].append(value)


def spread(values: Tensor) -> float:
    """The standard deviation; 0 where there is one value."""
    return float(values.std()) if len(values) > 1 else 0.0
