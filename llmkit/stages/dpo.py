"""`dpo`: a chat model and preference pairs to a better one, by `trl.DPOTrainer`.

Direct preference optimization (https://arxiv.org/abs/2305.18290): the policy is its own reward
model, with the implicit reward beta * (ln p(answer) - ln p_reference(answer)), and the loss is
-ln sigmoid(reward(chosen) - reward(rejected)). The reference is the model that training began with.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from llmkit.schema import Passes
from llmkit.stage import Context
from llmkit.trainers.pair_stage import PairStage

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast
    from trl import DPOConfig

    from llmkit.trainers.pairs import PairRows


@dataclass(frozen=True, kw_only=True)
class DPO(PairStage):
    """Move `model` towards the chosen answers of `dataset` and away from the rejected ones.

    Attributes:
        args: DPOConfig. `max_length` is the model's context where it is not given.
    """

    makes: ClassVar[tuple[str, ...]] = ("model",)
    task_type: ClassVar[str] = "CAUSAL_LM"
    refused: ClassVar[Mapping[str, str]] = {
        "truncation_mode": "a row too long loses the beginning of its prompt",
        "padding_free": "rows are padded to the longest of their batch",
        "sync_ref_model": "no checkpoint holds a reference that moves, so none could go on from it",
        "ref_model_mixup_alpha": "the reference stays what it is",
        "ref_model_sync_steps": "the reference stays what it is",
    }

    args: Annotated[dict[str, Any], Passes("trl.DPOConfig")] = field(default_factory=dict)

    def run(self, context: Context) -> dict[str, Any]:
        """Train, and write model, tokenizer and generation_config.json to `context.out`."""
        from llmkit.device import tune_allocator
        from llmkit.model import context_length, load_model, load_tokenizer
        from llmkit.patch import patched
        from llmkit.trainers.pair_figures import length_baseline
        from llmkit.trainers.session import train

        tune_allocator()
        source = context.inputs[self.model]
        tokenizer = load_tokenizer(source, self.revision)
        model = load_model(source, self.revision)
        rows, held_out, figures = self._rows(context, tokenizer, context_length(model))
        args = self._arguments(context.out, context.seed, self._schedule(rows), context.name)
        model.to(args.device)
        before = self._held_out(model, held_out, f"{context.name}: reference")
        trainer = self._trainer(context, model, tokenizer, rows, args)
        patches = self._patches(trainer.model)
        reference = trainer.ref_model
        with nullcontext() if reference is None else patched(reference, patches):
            figures |= train(trainer, patches)
        tuned = self._save(trainer, tokenizer, context.out)
        after = self._held_out(tuned, held_out, f"{context.name}: held out")
        measured = self._measure(before, after, held_out, args.beta)
        return measured | length_baseline(rows.pairs, held_out.pairs) | figures

    def _trainer(
        self,
        context: Context,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        rows: PairRows,
        args: DPOConfig,
    ) -> Any:
        """TRL's trainer, with the reference that it shall have: it would look for one by name."""
        import copy

        from llmkit.trainers.pair_trainers import PreferenceTuner
        from llmkit.trainers.pairs import divided_rows

        # An adapter can be switched off, and what is computed beforehand needs no second model.
        spared = self.peft is not None or args.precompute_ref_log_probs
        return PreferenceTuner(
            model=model,
            ref_model=None if spared else copy.deepcopy(model),
            args=args,
            context=context,
            optimizer=self.optimizer,
            train_dataset=divided_rows(rows),
            processing_class=tokenizer,
            peft_config=self._peft_config(context.name, model),
        )

    def _arguments(self, out: Path, seed: int, own: Mapping[str, Any], name: str) -> DPOConfig:
        from trl import DPOConfig

        from llmkit.trainers.arguments import training_arguments

        return training_arguments(DPOConfig, {**self._given(), **own}, out, seed, f"{name}.args")

    def _save(self, trainer: Any, tokenizer: PreTrainedTokenizerFast, out: Path) -> PreTrainedModel:
        """Write the model (with `peft`, the adapter and the two merged); return it."""
        from llmkit.reward_model import closing_ids
        from llmkit.trainers.adapters import merged
        from llmkit.trainers.session import save_model
        from llmkit.trainers.tuning import chat_generation

        if self.peft is not None:
            merged(trainer, out / "adapter", self.model)
        model = trainer.model
        vars(model).pop("forward", None)  # TRL bound its own on the instance
        model.generation_config = chat_generation(model, tokenizer, closing_ids(tokenizer)[0])
        save_model(trainer, out)
        model.eval()
        return model

    def _held_out(
        self, model: PreTrainedModel, rows: PairRows, label: str
    ) -> list[tuple[float, float]]:
        """ln p of both answers of each held-out pair: chosen, rejected."""
        from llmkit.trainers.pair_trainers import answer_log_probabilities

        chosen, rejected = (
            answer_log_probabilities(model, rows.prompts, answers, label)
            for answers in (rows.chosen, rows.rejected)
        )
        return list(zip(chosen, rejected, strict=True))

    def _measure(
        self,
        before: list[tuple[float, float]],
        after: list[tuple[float, float]],
        held_out: PairRows,
        beta: float,
    ) -> dict[str, Any]:
        """Implicit rewards of the held-out pairs: beta times the gain in ln p of each answer."""
        from llmkit.trainers.pair_figures import accuracy_figures

        rewards = [
            (beta * (chosen - was_chosen), beta * (rejected - was_rejected))
            for (chosen, rejected), (was_chosen, was_rejected) in zip(after, before, strict=True)
        ]
        figures = accuracy_figures([c - r for c, r in rewards], held_out.pairs)
        return figures | {
            "mean_chosen_reward": sum(c for c, _ in rewards) / len(rewards),
            "mean_rejected_reward": sum(r for _, r in rewards) / len(rewards),
        }
