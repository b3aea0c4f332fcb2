"""`Rollouts`, mixed in front of TRL's trainers that learn from what the model writes itself.

    class GRPO(Rollouts, trl.GRPOTrainer): ...

It takes the trainer's arguments by keyword, and `context` and `optimizer` as `Guarded` does. What
it adds, so that every such trainer is right in the same way:

- Completions come from `llmkit.decode.sample`, with random numbers that follow from seed, step and
  rank alone. (vLLM, and a model in shards, stay with TRL's own generation.)
- Log-probabilities of left-padded rows are those of the unpadded ones: TRL passes no position ids,
  and GPT-2's are then off by up to 0.7.
- No dropout: the ratio of the first update of a rollout is exactly 1.
- The reference of the KL penalty is a copy of the model as it was given. (TRL reads it anew from
  a path, without the revision.)
- A training is saved, and stops, only where a rollout is used up; TRL keeps it in memory, so that
  one that went on from inside would train on other completions. The order of prompts follows from
  seed and epoch, for the same reason.
- Reward functions get a column `ended`: whether each completion ended by itself.
- `logs/completions.jsonl` shows what is written: `{step, prompt, completion, reward, rewards}`.

Rows have the columns `prompt` (messages, or a text) and whatever the reward functions read.
Source: https://huggingface.co/docs/trl/grpo_trainer
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel
from trl.models import prepare_deepspeed, prepare_fsdp
from trl.trainer.utils import RepeatSampler, add_fused_lm_head

from llmkit.decode import prompt_ids as text_ids
from llmkit.decode import sample
from llmkit.model import encode_conversations
from llmkit.trainers.adapters import old_name_allowed
from llmkit.trainers.guard import Guarded
from llmkit.trainers.policy_forward import takes_positions, with_positions, without_dropout
from llmkit.trainers.rollout_rows import by_length

SHOWN = 4  # completions of a rollout that the log keeps, of different prompts


class Rollouts(Guarded):
    """Mixin; see above. `sorts_rows` says whether micro-batches are put together by length."""

    sorts_rows: ClassVar[bool] = False

    args: Any
    model: Any
    state: Any
    control: Any
    accelerator: Any
    _buffered_inputs: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        settings, model = kwargs["args"], kwargs["model"]
        frozen = None
        if settings.beta and kwargs.get("peft_config") is None:
            frozen = copy.deepcopy(model)  # before TRL binds its head on the instance
        beta, settings.beta = settings.beta, 0.0  # so that TRL reads none from a path
        with old_name_allowed():
            super().__init__(*args, **kwargs)
        self.beta = settings.beta = beta
        self.ref_model = None if frozen is None else self._reference(frozen)
        without_dropout(self.model)
        self.generation_seconds = 0.0
        self._takes_positions = takes_positions(self.model)
        self._last_draw = (-1, 0)  # step, how many draws it has seen
        self._save_waits = self._stop_waits = False
        self._shown_step = -1

    def _reference(self, model: PreTrainedModel) -> Any:
        """`model`, made ready as TRL makes its own reference ready."""
        model.requires_grad_(False)
        without_dropout(model)
        add_fused_lm_head(model, temperature=self.temperature)  # type: ignore[attr-defined]
        if self.is_deepspeed_enabled:  # type: ignore[attr-defined]
            return prepare_deepspeed(model, self.accelerator)
        if self.is_fsdp_enabled:  # type: ignore[attr-defined]
            return prepare_fsdp(model, self.accelerator)
        return self.accelerator.prepare_model(model, evaluation_mode=True)

    # Prompts and completions ------------------------------------------------------------------

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        """TRL's order within a rollout; a shuffle of the prompts that follows from the epoch."""
        settings = self.args
        order = PromptOrder(
            data_source=self.train_dataset if dataset is None else dataset,  # type: ignore[attr-defined]
            mini_repeat_count=settings.num_generations,
            batch_size=settings.generation_batch_size // settings.num_generations,
            repeat_count=settings.num_iterations * settings.steps_per_generation,
            shuffle=settings.shuffle_dataset,
            seed=settings.seed,
        )
        order.epoch = lambda: int(self.state.epoch or 0)
        return order

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """As chat asks: a special token's spelling inside a message stays text."""
        return self.prompts_to_ids(prompts), None, {}

    def prompts_to_ids(self, prompts: Sequence[Any]) -> list[list[int]]:
        """Ids of messages by the chat template, of texts as a document begins."""
        tokenizer = self.processing_class  # type: ignore[attr-defined]
        if isinstance(prompts[0], str):
            return [text_ids(tokenizer, text) for text in prompts]
        return [ids for ids, _ in encode_conversations(tokenizer, prompts, True)]

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        """Completions as ids, each with its stop token; and TRL's place for log-probabilities."""
        sharded = self.is_deepspeed_enabled or self.is_fsdp_enabled  # type: ignore[attr-defined]
        started = time.perf_counter()
        if self.use_vllm or sharded:  # type: ignore[attr-defined]
            written = super()._generate_single_turn(  # type: ignore[misc]
                prompt_ids, *args, **kwargs
            )
        else:
            written = self.drawn(prompt_ids, self._next_generator()), None
        self.generation_seconds += time.perf_counter() - started
        return written

    def drawn(
        self, prompts: Sequence[Sequence[int]], generator: torch.Generator
    ) -> list[list[int]]:
        """One completion of each prompt, as the trainer's settings sample."""
        model = self.accelerator.unwrap_model(self.model)
        settings = self.generation_config  # type: ignore[attr-defined]
        with self.accelerator.autocast():  # what the model's own forward would do by itself
            return sample(model, prompts, settings, generator).ids

    def generator(self, *key: object) -> torch.Generator:
        """Random numbers that follow from the training's seed, this rank and `key` alone."""
        settings = self.args
        text = ":".join(map(str, (settings.seed, settings.process_index, *key)))
        seed = int.from_bytes(blake2b(text.encode(), digest_size=7).digest(), "big")
        return torch.Generator(settings.device).manual_seed(seed)

    def _next_generator(self) -> torch.Generator:
        """A step may see several rollouts; a training that goes on begins with its first."""
        step, draws = self._last_draw
        again = step == self.state.global_step
        self._last_draw = (self.state.global_step, draws + 1 if again else 0)
        return self.generator("rollout", *self._last_draw)

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: Any, completions: Any, ids: list[list[int]]
    ) -> Any:
        ended = (self.ends(written) for written in ids)
        rows = [{**row, "ended": end} for row, end in zip(inputs, ended, strict=True)]
        return super()._calculate_rewards(rows, prompts, completions, ids)  # type: ignore[misc]

    def ends(self, completion: Sequence[int]) -> bool:
        """Whether the ids close with a token that ends a completion."""
        return bool(completion) and completion[-1] in self.eos_token_ids  # type: ignore[attr-defined]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        with old_name_allowed():
            scored: dict[str, Any] = super()._generate_and_score_completions(  # type: ignore[misc]
                inputs
            )
        self.meter.tokens += int(scored["prompt_mask"].sum() + scored["completion_mask"].sum())
        return scored

    # Log-probabilities ------------------------------------------------------------------------

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        return super()._get_per_token_logps_and_entropies(  # type: ignore[misc]
            with_positions(model) if self._takes_positions else model,
            input_ids,
            attention_mask,
            *args,
            **kwargs,
        )

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        fresh = self._buffered_inputs is None or self.rollout_used_up()
        inputs = super()._prepare_inputs(generation_batch)  # type: ignore[misc]
        if fresh and self.sorts_rows:
            self._buffered_inputs = by_length(self._buffered_inputs, self._micro_batches())
            inputs = self._buffered_inputs[0]
        if self._batches:
            self._batches[-1] = inputs  # the guard names the tensors, not the rows they came from
        return inputs

    def _micro_batches(self) -> int:
        """How many of a rollout's micro-batches may exchange rows: those of one update.

        One where the loss takes means within a micro-batch, so that it matters what stands there.
        """
        settings = vars(self.args)
        means = settings.get("loss_type") == "bnpo" or settings.get("top_entropy_quantile", 1) < 1
        bonus = settings.get("entropy_coef") or settings.get("use_adaptive_entropy")
        update, rollout = self.args.gradient_accumulation_steps, self.args.steps_per_generation
        if means or bonus or (rollout % update and update % rollout):
            return 1
        return int(min(update, rollout))

    # Where a training may be saved and stopped --------------------------------------------------

    def rollout_used_up(self) -> bool:
        """Whether the next step begins with new completions."""
        step: int = self._step  # type: ignore[attr-defined]
        return step % (self.args.steps_per_generation * self.args.num_iterations) == 0

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """What was asked for inside a rollout waits for its end, or for the last step."""
        self._save_waits |= self.control.should_save
        self._stop_waits |= self.control.should_training_stop
        here = self.rollout_used_up() or self.state.global_step >= self.state.max_steps
        self.control.should_save = here and self._save_waits
        self.control.should_training_stop = here and self._stop_waits
        if here:
            self._save_waits = self._stop_waits = False
        super()._maybe_log_save_evaluate(*args, **kwargs)  # type: ignore[misc]

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """TRL writes one beside every checkpoint, which nobody reads."""

    # What is seen -----------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log(logs, start_time)  # type: ignore[misc]
        new = self.state.global_step != self._shown_step
        if new and self.accelerator.is_main_process:
            self._shown_step = self.state.global_step
            self._show_completions()

    def _show_completions(self) -> None:
        """The first completion of each of the last rollout's first prompts."""
        logs: Any = self._logs  # type: ignore[attr-defined]
        weights = self.reward_weights.tolist()  # type: ignore[attr-defined]
        every = self.args.num_generations
        with (self.context.logs / "completions.jsonl").open("a", encoding="utf-8") as file:
            for index in range(0, len(logs["prompt"]), every)[:SHOWN]:
                rewards = {name: column[index] for name, column in logs["rewards"].items()}
                said = logs["completion"][index]
                row = {
                    "step": self.state.global_step,
                    "prompt": logs["prompt"][index],
                    "completion": said if isinstance(said, str) else said[-1]["content"],
                    "reward": sum(w * r for w, r in zip(weights, rewards.values(), strict=True)),
                    "rewards": rewards,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


class PromptOrder(RepeatSampler):
    """TRL's sampler, whose shuffle follows from the epoch: TRL's goes on from the epoch before."""

    epoch: Callable[[], int]

    def __iter__(self) -> Any:
        if self.shuffle:
            self.generator.manual_seed(self.seed + self.epoch())
        return super().__iter__()
