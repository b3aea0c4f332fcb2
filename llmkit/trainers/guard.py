"""`Guarded`, mixed in front of any Hugging Face or TRL trainer: what all stages' trainers add.

    class Pretrainer(Guarded, transformers.Trainer): ...
    class Tuner(Guarded, trl.SFTTrainer): ...

- A loss or gradient that is not finite stops before the update, naming step and batch. Hugging
  Face's Trainer logs `loss: 0.0` from there on and returns a model of NaNs.
- An update that stands far out may be left out (`llmkit.trainers.spikes`).
- The optimizer is the one that the recipe names.
- Tokens and loss are counted for the progress line.

Loss and gradient norm come to the host together, once a step: that is the only time in a step that
a GPU is waited for.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PrinterCallback, SchedulerType

from llmkit.errors import UserError, dotted
from llmkit.stage import Context
from llmkit.trainers.muon import muon_for
from llmkit.trainers.pace import Meter
from llmkit.trainers.refusals import refused
from llmkit.trainers.schedules import peak_problems
from llmkit.trainers.settings import Optimizer, muon_settings
from llmkit.trainers.spikes import SpikeWatch

log = logging.getLogger("llmkit")

GATE = "finite_loss"


class Guarded:
    """Mixin; takes the trainer's arguments and, by keyword, `context`, `optimizer`, `spikes`."""

    def __init__(
        self,
        *args: Any,
        context: Context,
        optimizer: Optimizer = "adamw",
        spikes: SpikeWatch | None = None,
        **kwargs: Any,
    ) -> None:
        self.context = context
        self.spikes = spikes
        self.meter = Meter()
        self._muon = muon_settings(optimizer)
        self._step_loss: torch.Tensor | float = 0.0  # of the micro-batches since the last update
        self._batches: list[Any] = []  # since the last update; on the device already
        self._flops_per_token: float | None = None
        name_the_loss(kwargs["model"] if "model" in kwargs else args[0])
        super().__init__(*args, **kwargs)
        self.remove_callback(PrinterCallback)  # type: ignore[attr-defined]

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Forward and backward of one micro-batch; its share of the step's loss."""
        self._batches.append(inputs)
        loss: torch.Tensor = super().training_step(  # type: ignore[misc]
            model, inputs, *args, **kwargs
        )
        self._step_loss = self._step_loss + loss
        if isinstance(inputs, Mapping) and "input_ids" in inputs:
            self.meter.tokens += inputs["input_ids"].numel()
        return loss

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        """The trainer asks for the norm once a step, after clipping and before the update."""
        norm = super()._get_grad_norm(*args, **kwargs)  # type: ignore[misc]
        loss, size = on_the_host(self._over_all(self._step_loss), norm)
        batches, self._batches, self._step_loss = self._batches, [], 0.0
        # With fp16 a gradient overflows now and then, and the loss scaler skips that step.
        fp16 = self.args.fp16  # type: ignore[attr-defined]
        if not math.isfinite(loss):
            self._refuse_update(f"loss {loss}", batches)
        elif not math.isfinite(size):
            if not fp16:
                self._refuse_update(f"gradient norm {size}", batches)
        elif self.spikes is not None:
            self._judge(loss, size, batches)
        self.meter.loss = loss
        self.check_loss(loss)
        return norm

    def _over_all(self, loss: torch.Tensor | float) -> torch.Tensor | float:
        """The mean over all processes, so that each judges the same figure in the same way."""
        if self.args.world_size == 1:  # type: ignore[attr-defined]
            return loss
        device = self.args.device  # type: ignore[attr-defined]
        own = torch.as_tensor(loss, dtype=torch.float32, device=device)
        mean: torch.Tensor = self.accelerator.reduce(own, "mean")  # type: ignore[attr-defined]
        return mean

    def _judge(self, loss: float, norm: float, batches: list[Any]) -> None:
        """Leave the update out where loss or gradient spikes."""
        if self.spikes is not None and self.spikes.spike(loss, norm):
            self.leave_out_update()
            step = self.state.global_step + 1  # type: ignore[attr-defined]
            row = {"step": step, "skipped_loss": loss, "skipped_grad_norm": norm}
            self.log({**row, "skipped_batch": batch_digest(batches)})  # type: ignore[attr-defined]
            told = "%s: step %d is left out: loss %.3f, gradient norm %.3g"
            log.warning(told, self.context.name, step, loss, norm)

    def check_loss(self, loss: float) -> None:
        """For subclasses: sees each step's loss (nats a token) before the update."""

    def recall_gates(self) -> None:
        """For subclasses: before a training goes on, record the gates that its start went through.

        An earlier process measured them, and `stage.json` shall tell of them all the same.
        """

    def _refuse_update(self, measured: str, batches: list[Any]) -> None:
        step = self.state.global_step + 1  # type: ignore[attr-defined]
        where = f"{measured} at step {step}, batch {batch_digest(batches)}"
        remedy = (
            "lower learning_rate or mend the data; changed settings start the stage from its "
            "beginning"
        )
        self.context.gate(GATE, False, where, "finite", remedy)
        self.leave_out_update()  # `gates: warn` asked to go on

    def leave_out_update(self) -> None:
        """Without gradients, the optimizer leaves weights and its own state alone."""
        for parameter in self.model.parameters():  # type: ignore[attr-defined]
            parameter.grad = None

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The recipe's optimizer over the trained parameters; Hugging Face's own for `adamw`."""
        if self._muon is None or self.optimizer is not None:
            where, remedy = f"{self.context.name}.args", "change optim or its arguments"
            with refused(where, "the optimizer", remedy):
                return super().create_optimizer(model)  # type: ignore[misc]
        trained = self.model if model is None else model  # type: ignore[attr-defined]
        decayed = self.get_decay_parameter_names(trained)  # type: ignore[attr-defined]
        self.optimizer: Any = muon_for(
            trained,
            self.args,  # type: ignore[attr-defined]
            self._muon,
            decayed,
        )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule of `args`; its peak is reached, now that the number of steps is known."""
        args: Any = self.args  # type: ignore[attr-defined]
        kind, own = SchedulerType(args.lr_scheduler_type).value, args.lr_scheduler_kwargs or {}
        for problem in peak_problems(kind, args.warmup_steps, own, num_training_steps):
            where = dotted((self.context.name, *problem.path))
            raise UserError(where, problem.what, problem.remedy)
        with refused(f"{self.context.name}.args", "the schedule", "change lr_scheduler_kwargs"):
            return super().create_scheduler(  # type: ignore[misc]
                num_training_steps, optimizer
            )

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """The trainer's own warnings of a resume, but not of a weight that is tied to a loaded one.

        A tied head lies in the checkpoint once, as the embedding; no key of it is missing.
        """
        missing = set(load_result.missing_keys)
        model: torch.nn.Module = self.model  # type: ignore[attr-defined]
        weights = dict(model.named_parameters(remove_duplicate=False))
        loaded = {id(weight) for name, weight in weights.items() if name not in missing}
        left = [name for name in load_result.missing_keys if id(weights.get(name)) not in loaded]
        super()._issue_warnings_after_load(  # type: ignore[misc]
            load_result._replace(missing_keys=left)
        )

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write tied weights once: gathered from shards, each name has a copy of its own."""
        if state_dict is not None:
            model: torch.nn.Module = self.model  # type: ignore[attr-defined]
            every = [name for name, _ in model.named_parameters(remove_duplicate=False)]
            once = {name for name, _ in model.named_parameters()}
            state_dict = {k: v for k, v in state_dict.items() if k not in set(every) - once}
        super()._save(output_dir, state_dict)  # type: ignore[misc]

    def floating_point_ops(self, inputs: Any) -> float:
        """The trainer's own figure, counting the model's parameters once rather than each time."""
        if not isinstance(inputs, Mapping) or "input_ids" not in inputs:
            return float(super().floating_point_ops(inputs))  # type: ignore[misc]
        tokens = inputs["input_ids"].numel()
        if self._flops_per_token is None:
            flops = super().floating_point_ops(inputs)  # type: ignore[misc]
            self._flops_per_token = flops / tokens
        return tokens * self._flops_per_token


def on_the_host(loss: torch.Tensor | float, norm: torch.Tensor | float) -> tuple[float, float]:
    """Both as numbers, in one transfer; they lie where the model does."""
    plain = type(loss) is torch.Tensor and type(norm) is torch.Tensor  # and no DTensor
    if plain and isinstance(loss, torch.Tensor) and isinstance(norm, torch.Tensor):
        first, second = torch.stack([loss.detach().float(), norm.detach().float()]).tolist()
        return first, second
    return float(loss), float(norm)


def name_the_loss(model: Any) -> None:
    """Say of a causal model that it shifts its labels, where its class name does not.

    transformers tells the loss by a pattern in the class's name, which `GPT2LMHeadModel` lacks; it
    then computes the shifted loss all the same, but counts T tokens a row where T - 1 are
    predicted, and every training loss and gradient is (T - 1) / T of the true one.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if isinstance(base, PreTrainedModel) and base.loss_type is None:
        base.loss_type = "ForCausalLM"


def batch_digest(batches: list[Any]) -> str:
    """Twelve hexadecimal digits that name the tensors of a step's batches, on any machine."""
    digest = hashlib.sha256()
    for batch in batches:
        for key in sorted(batch) if isinstance(batch, Mapping) else ():
            if isinstance(batch[key], torch.Tensor):
                digest.update(key.encode())
                digest.update(batch[key].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
