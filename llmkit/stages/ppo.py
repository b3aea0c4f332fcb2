"""`ppo`: a model, prompts and rewards to a better model, by llmkit's own `PPOTrainer`.

A value model learns beside the policy what a text is worth, and what turns out better than it
foresaw becomes more likely; a KL penalty keeps the policy near the model that training began with
(Ziegler et al. 2019, https://arxiv.org/abs/1909.08593).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from llmkit.errors import Problem, UserError
from llmkit.rewards.model import ModelReward
from llmkit.run_dir import RECORD, read_json
from llmkit.schema import Keyed, Passes
from llmkit.stage import Context, Facts
from llmkit.trainers.policy import PolicyStage, Row, check_enough, fitting
from llmkit.trainers.ppo_refused import REFUSED

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

REWARD_GATE, ABOVE_CHANCE = "reward_above_chance", "above_chance"
MEASURED = 512  # prompts that are answered before and after the training, at most


@dataclass(frozen=True, kw_only=True)
class PPO(PolicyStage):
    """Train `model` on the prompts of `dataset`, to earn more of `rewards`.

    Attributes:
        dataset: sources of prompts.
        eval_dataset: sources of the prompts that are answered before and after the training, the
            first 512; those of `dataset` where it is not given.
        args: PPOConfig.
        kl_bound: nats a completion that the policy may be away from `model`.
        value_model: what the value model begins as: `policy`, or the first `reward` model.
    """

    refused: ClassVar[Mapping[str, str]] = REFUSED

    dataset: Annotated[list[Any], Keyed("llmkit.data.chat.prompts:PROMPTS")]
    eval_dataset: Annotated[list[Any] | None, Keyed("llmkit.data.chat.prompts:PROMPTS")] = None
    args: Annotated[dict[str, Any], Passes("llmkit.PPOConfig")] = field(default_factory=dict)
    kl_bound: float = 10.0
    value_model: Literal["policy", "reward"] = "policy"

    def problems(self, upstream: Mapping[str, Facts]) -> Iterator[Problem]:
        if not self.rewards:
            yield Problem(("rewards",), "is empty", "name a reward model, a task or a function")
        for key, sources in (("dataset", self.dataset), ("eval_dataset", self.eval_dataset)):
            if sources is not None and not sources:
                yield Problem((key,), "is empty", "name at least one source of prompts")
            if len({source.weight is None for source in sources or ()}) > 1:
                remedy = "give every source a weight, or none"
                yield Problem((key,), "some sources have a weight and some have none", remedy)
        if not self.kl_bound > 0:
            yield Problem(("kl_bound",), f"{self.kl_bound} is not positive")
        if self.value_model == "reward" and not self._reward_models():
            what = "there is no reward model among the rewards"
            yield Problem(("value_model",), what, "let it begin as the policy")
        yield from super().problems(upstream)

    def files(self) -> Iterator[Path]:
        yield from super().files()
        for source in (*self.dataset, *(self.eval_dataset or ())):
            yield from source.files()

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        for source in (*self.dataset, *(self.eval_dataset or ())):
            yield from source.hub_data()

    def prepare(self, name: str) -> None:
        """As of all policies; and the value model can be whole where this is launched."""
        from llmkit.trainers.launch import check_value_model

        check_value_model(name)
        super().prepare(name)

    def run(self, context: Context) -> dict[str, Any]:
        """Train, and write model, value model, tokenizer and generation_config.json."""
        import datasets

        from llmkit.device import tune_allocator
        from llmkit.model import context_length, load_model, load_tokenizer
        from llmkit.trainers.ppo import PPOTrainer

        tune_allocator()
        self._gate_rewards(context)
        source = context.inputs[self.model]
        tokenizer = load_tokenizer(source, self.revision)
        model = load_model(source, self.revision)
        generation = copy.deepcopy(model.generation_config)
        args = self._arguments(context.out, context.seed, context.name)
        room = context_length(model) - args.max_completion_length
        rows, bad = self._rows(context, self.dataset, tokenizer, room)
        measured = rows[:MEASURED]
        if self.eval_dataset is not None:
            measured = self._rows(context, self.eval_dataset, tokenizer, room)[0][:MEASURED]
        check_enough(rows, args, context.name)
        functions, args.reward_weights = self._reward_functions(context, tokenizer, args.device)
        trainer = PPOTrainer(
            model=model,
            args=args,
            value_model=self._value_model(context, tokenizer),
            kl_bound=self.kl_bound,
            context=context,
            optimizer=self.optimizer,
            reward_funcs=functions,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=self._peft_config(context.name, model),
        )
        figures = self._train(trainer, measured)
        self._save(trainer, generation, context.out)
        return {"prompts": len(rows), "bad_rows": bad} | figures

    def _train(self, trainer: Any, measured: list[Row]) -> dict[str, Any]:
        """Train, with `measured` answered before and after.

        Patches are lent to all three models, lest policy and reference differ by rounding.
        """
        from llmkit.patch import patched
        from llmkit.trainers.session import train

        before = trainer.measure(measured)
        with ExitStack() as loans:
            for model in filter(None, (trainer.value_model, trainer.ref_model)):
                loans.enter_context(patched(model, self._patches(model)))
            figures = train(trainer, self._patches(trainer.model))
        after = trainer.measure(measured)
        trainer.record_gates(after.mean_kl)
        return figures | trainer.figures(before, after)

    def _config(self) -> type[Any]:
        from llmkit.trainers.ppo_config import PPOConfig

        return PPOConfig

    def _arguments(self, out: Path, seed: int, name: str) -> Any:
        """A line of the curve for each rollout, where `logging_steps` does not say otherwise."""
        arguments = super()._arguments(out, seed, name)
        if "logging_steps" not in self.args:
            arguments.logging_steps = arguments.num_ppo_epochs * arguments.num_mini_batches
        return arguments

    def _rows(
        self,
        context: Context,
        sources: Sequence[Any],
        tokenizer: PreTrainedTokenizerFast,
        room: int,
    ) -> tuple[list[Row], int]:
        """The prompts that leave room for a completion, and how many rows were bad."""
        from llmkit.data.chat.prompts import gathered
        from llmkit.data.sources.readers import BadRows
        from llmkit.model import encode_conversations

        bad_rows = BadRows(self.max_bad_rows)
        found = gathered(sources, context.world, context.inputs, context.seed, bad_rows)
        rows = [
            {
                "prompt": prompt.messages,
                "answer": prompt.answer,
                "details": json.dumps(dict(prompt.details), sort_keys=True),
            }
            for prompt in found
        ]
        ids = [ids for ids, _ in encode_conversations(tokenizer, [r["prompt"] for r in rows], True)]
        return fitting(rows, ids, room, self.max_bad_rows, context.name), bad_rows.count

    def _reward_models(self) -> list[ModelReward]:
        return [reward for reward in self.rewards if isinstance(reward, ModelReward)]

    def _value_model(
        self, context: Context, tokenizer: PreTrainedTokenizerFast
    ) -> PreTrainedModel | None:
        """What the value model begins as; None for the policy, which the trainer has."""
        if self.value_model == "policy":
            return None
        from llmkit.reward_model import load_reward_model
        from llmkit.trainers.critic import fresh_critic

        first = self._reward_models()[0]
        model, own = load_reward_model(context.inputs[first.model], first.revision)
        if own.get_vocab() != tokenizer.get_vocab():
            what = f"{first.model} has another tokenizer than {self.model}"
            raise UserError(f"{context.name}.value_model", what, "let it begin as the policy")
        return fresh_critic(model)

    def _gate_rewards(self, context: Context) -> None:
        """A reward model that tells good from bad no better than chance teaches nothing."""
        for reward in self._reward_models():
            bound = f"{reward.model} passed its own gate {ABOVE_CHANCE} on held-out pairs"
            record = Path(context.inputs[reward.model]) / RECORD
            gates = read_json(record, "")["gates"] if record.is_file() else []
            found = [gate for gate in gates if gate["gate"] == ABOVE_CHANCE]
            if not found or found[-1]["passed"] is None:
                why = f"nothing is recorded of the held-out accuracy of {reward.model}"
                context.gate_left_out(REWARD_GATE, why, bound)
                continue
            remedy = "train the reward model on more pairs, or let a task judge"
            passed, measured = bool(found[-1]["passed"]), found[-1]["measured"]
            context.gate(REWARD_GATE, passed, measured, bound, remedy)
