"""`WithCritic`: a value model trained beside the policy, in front of a Hugging Face trainer.

The trainer knows of one model. So the value model's parameters get groups of their own in its
optimizer, its gradients their own zeroing and clipping, and each checkpoint its weights. It is no
part of the policy, which is saved, and handed to vLLM, alone.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from llmkit.trainers.critic import load_critic, save_critic, token_values
from llmkit.trainers.policy_forward import takes_positions
from llmkit.trainers.ppo_rollout import Batch
from llmkit.trainers.rollouts import Rollouts


class WithCritic(Rollouts):
    """Mixin; takes `value_model`, a token classifier with one label, by keyword."""

    def __init__(self, *, value_model: PreTrainedModel, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:  # type: ignore[attr-defined]
            raise ValueError("the value model is whole on each rank: no DeepSpeed, no FSDP")
        self.value_model = value_model.train()
        self._critic_takes_positions = takes_positions(value_model)
        # The wrapper synchronises gradients: without it the ranks' critics drift apart in silence.
        self._critic = self.accelerator.prepare_model(value_model)

    def values(self, batch: Batch) -> Tensor:
        """(B, T): what the text before each token of the completions is worth."""
        tokens = batch["completion_ids"].shape[1]
        with self.accelerator.autocast():
            return token_values(
                self._critic,
                batch["input_ids"],
                batch["attention_mask"],
                tokens,
                self._critic_takes_positions,
            )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The policy's optimizer, and the value model in it; AdamW's figures where it is Muon."""
        optimizer = super().create_optimizer(model)
        known = {id(p) for group in optimizer.param_groups for p in group["params"]}
        decayed = self.get_decay_parameter_names(self.value_model)  # type: ignore[attr-defined]
        args, rate = self.args, self.args.critic_learning_rate
        for weight_decay, wanted in ((args.weight_decay, True), (0.0, False)):
            parameters = [
                parameter
                for name, parameter in self.value_model.named_parameters()
                if (name in decayed) == wanted and id(parameter) not in known
            ]
            group = {
                "params": parameters,
                "lr": args.learning_rate if rate is None else rate,
                "weight_decay": weight_decay,
                "betas": (args.adam_beta1, args.adam_beta2),
                "eps": args.adam_epsilon,
                "algorithm": "adamw",  # in llmkit's Muon, which trains some groups so
            }
            if parameters:
                optimizer.add_param_group(group)
        return optimizer

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        step: int = self._step  # type: ignore[attr-defined]
        if step % self.args.gradient_accumulation_steps == 0:
            self.value_model.zero_grad()
        return super().training_step(*args, **kwargs)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The policy's norm; the value model's where that is not finite, so that it is refused."""
        parameters = self.value_model.parameters()
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.args.max_grad_norm or math.inf)
        metrics: Any = self._metrics  # type: ignore[attr-defined]
        metrics["train"]["val/grad_norm"].append(float(norm))
        given = grad_norm if math.isfinite(float(norm)) else norm
        return super()._get_grad_norm(model, grad_norm=given)

    def _refuse_update(self, measured: str, batches: list[Any]) -> None:
        super()._refuse_update(measured, batches)
        self.value_model.zero_grad()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The policy as ever, and its value model in `value_model/` of the same folder."""
        super().save_model(output_dir, _internal_call)  # type: ignore[misc]
        if self.args.should_save:
            save_critic(self.value_model, output_dir or self.args.output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
        self.value_model.load_state_dict(load_critic(resume_from_checkpoint).state_dict())
