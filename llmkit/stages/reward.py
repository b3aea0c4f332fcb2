"""`reward`: a model and preference pairs to a reward model, by `trl.RewardTrainer`.

The loss is -ln sigmoid(score(chosen) - score(rejected)), the score read where the answer ends
(https://arxiv.org/abs/2203.02155, 3.5). What is measured is what was saved: the folder is loaded
again, since a head that is not in it gives scores too, by chance (trl #1379).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from llmkit.errors import Problem
from llmkit.schema import Passes
from llmkit.stage import Context, Facts
from llmkit.trainers.pair_stage import PairStage

if TYPE_CHECKING:
    from trl import RewardConfig

    from llmkit.trainers.pairs import PairRows

CHANCE = 0.5


@dataclass(frozen=True, kw_only=True)
class Reward(PairStage):
    """Train a head of one score on `model`, and the model with it, on the pairs of `dataset`.

    Attributes:
        args: RewardConfig. `max_length` is the model's context where it is not given.
        new_layers: copies of the last layers of `model` put on top, its own stay as they are: a
            model of few layers has none left to compare what it foresees with what was said.
    """

    makes: ClassVar[tuple[str, ...]] = ("reward_model",)
    task_type: ClassVar[str] = "SEQ_CLS"

    args: Annotated[dict[str, Any], Passes("trl.RewardConfig")] = field(default_factory=dict)
    new_layers: int = 0

    def problems(self, upstream: Mapping[str, Facts]) -> Iterator[Problem]:
        if self.new_layers < 0:
            yield Problem(("new_layers",), f"{self.new_layers} is negative")
        if self.new_layers and self.peft is not None:
            what = "stands beside peft, which adapts the layers below"
            yield Problem(("new_layers",), what, "keep one of the two")
        yield from super().problems(upstream)

    def prepare(self, name: str) -> None:
        """As of all pairs; and new layers can be copied where this is launched."""
        from llmkit.trainers.launch import check_new_layers

        if self.new_layers:
            check_new_layers(name)
        super().prepare(name)

    def run(self, context: Context) -> dict[str, Any]:
        """Train, write model and tokenizer to `context.out`, and measure what lies there."""
        from llmkit.device import tune_allocator
        from llmkit.model import context_length
        from llmkit.new_layers import add_layers
        from llmkit.reward_model import fresh_reward_model
        from llmkit.trainers.pair_figures import length_baseline
        from llmkit.trainers.pair_trainers import RewardTuner
        from llmkit.trainers.pairs import whole_rows
        from llmkit.trainers.session import train

        tune_allocator()
        model, tokenizer = fresh_reward_model(
            context.inputs[self.model], self.revision, context.seed
        )
        if self.new_layers:
            add_layers(model, self.new_layers, f"{context.name}.new_layers")
        rows, held_out, figures = self._rows(context, tokenizer, context_length(model))
        trainer = RewardTuner(
            model=model,
            args=self._arguments(context.out, context.seed, self._schedule(rows), context.name),
            context=context,
            optimizer=self.optimizer,
            train_dataset=whole_rows(rows),
            processing_class=tokenizer,
            peft_config=self._peft_config(context.name, model),
        )
        figures |= train(trainer, self._patches(trainer.model))
        self._save(trainer, context.out)
        measured = self._measure(context, trainer, held_out)
        return measured | length_baseline(rows.pairs, held_out.pairs) | figures

    def _arguments(self, out: Path, seed: int, own: Mapping[str, Any], name: str) -> RewardConfig:
        from trl import RewardConfig

        from llmkit.trainers.arguments import training_arguments

        return training_arguments(RewardConfig, {**self._given(), **own}, out, seed, f"{name}.args")

    def _save(self, trainer: Any, out: Path) -> None:
        from llmkit.trainers.adapters import merged
        from llmkit.trainers.session import save_model

        if self.peft is not None:
            merged(trainer, out / "adapter", self.model)
        save_model(trainer, out)
        trainer.accelerator.wait_for_everyone()

    def _measure(self, context: Context, trainer: Any, held_out: PairRows) -> dict[str, Any]:
        """Figures of the held-out pairs, and the gate that guards what learns from the scores."""
        from llmkit.reward_model import load_reward_model, row_scores
        from llmkit.trainers.pair_figures import accuracy_figures
        from llmkit.trainers.pairs import joined

        model, _ = load_reward_model(context.out)
        model.to(trainer.args.device)
        batch = trainer.args.per_device_eval_batch_size
        chosen, rejected = (
            row_scores(model, joined(held_out.prompts, answers), batch)
            for answers in (held_out.chosen, held_out.rejected)
        )
        margins = [c - r for c, r in zip(chosen, rejected, strict=True)]
        figures = accuracy_figures(margins, held_out.pairs)
        low, high = figures["accuracy_low"], figures["accuracy_high"]
        context.gate(
            "above_chance",
            low > CHANCE,
            f"accuracy {figures['accuracy']:.3f} [{low:.3f}, {high:.3f}] on held-out pairs",
            f"a 95 % interval that lies above {CHANCE}",
            "train on more pairs or for longer, or hold out more to measure on",
        )
        return figures | {"mean_reward": sum(chosen + rejected) / (2 * len(margins))}
