"""`PolicyStage`: the recipe keys and the laws of the stages that learn from rewards.

What `grpo`, `rloo` and `ppo` have in common: which arguments of TRL they take, where their prompts
come from and how many tokens those may have, their reward functions, and how the policy is saved.
Imports nothing heavy: a recipe check reads it.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from llmkit.errors import InputError, Problem, UserError
from llmkit.generation import REFUSED as REFUSED_GENERATION
from llmkit.generation import without_room
from llmkit.schema import Keyed, Passes, Refers
from llmkit.stage import Context, Facts, Stage
from llmkit.trainers.settings import Optimizer, Patches, trainer_problems

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

    from llmkit.rewards.reward import RewardFunction
    from llmkit.tasks.task import Example

Row = dict[str, Any]  # prompt, answer, details (JSON), task

LOADING = "llmkit loads the model itself, and runs no code that comes with it"
MEASURE = "add an `evaluate` stage with the same tasks"
REFERENCE = (
    "the reference stays the model that training began with: a moving one is in no checkpoint"
)
SHOWN = "logs/completions.jsonl shows them"
BATCHING = "completions come from llmkit's decoder, or with `use_vllm` from vLLM"
REFUSED = {
    "model_init_kwargs": LOADING,
    "trust_remote_code": LOADING,
    "cast_lm_head_to_fp32": "the weights are trained in float32",
    "disable_dropout": "there is none: the ratio of two policies would be noise",
    "chat_template_kwargs": "prompts go through the chat template as chat asks",
    "train_sampling_strategy": "prompts are drawn in groups; see shuffle_dataset",
    "reward_weights": "give each of `rewards` its own `weight`",
    "sync_ref_model": REFERENCE,
    "ref_model_mixup_alpha": REFERENCE,
    "ref_model_sync_steps": REFERENCE,
    "log_completions": SHOWN,
    "log_completions_hub_repo": SHOWN,
    "log_multimodal": SHOWN,
    "log_unique_prompts": SHOWN,
    "num_completions_to_print": SHOWN,
    "max_tool_calling_iterations": "the model is given no tools",
    "use_transformers_continuous_batching": BATCHING,
    "transformers_continuous_batching_config": BATCHING,
    "use_transformers_paged": BATCHING,
    "cache_implementation": BATCHING,
    "num_generations_eval": MEASURE,
    "eval_strategy": MEASURE,
    "eval_steps": MEASURE,
    "eval_delay": MEASURE,
    "eval_on_start": MEASURE,
    "per_device_eval_batch_size": MEASURE,
    "load_best_model_at_end": MEASURE,
    "metric_for_best_model": MEASURE,
    "greater_is_better": MEASURE,
}
DEFAULTS: dict[str, Any] = {
    "disable_dropout": True,
    "logging_steps": 0.01,  # of all steps: a reward curve of a hundred points
}


@dataclass(frozen=True, kw_only=True)
class PolicyStage(Stage):
    """Keys of the stages; each adds `args`, of its own class, what it is asked, and `run`.

    Attributes:
        model: an earlier stage, a model folder or a Hub id (with `revision`).
        rewards: what completions are rewarded by, each times its weight.
        peft: LoraConfig; then `adapter/` is saved beside the merged model.
        max_bad_rows: bad rows, or prompts that leave no room for a completion, that may be left
            out.
    """

    makes: ClassVar[tuple[str, ...]] = ("model",)
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "trl", "accelerate", "peft")
    together: ClassVar[bool] = True
    refused: ClassVar[Mapping[str, str]] = {}  # arguments that this stage alone does not take

    model: Annotated[str, Refers("model")]
    revision: str | None = None
    rewards: Annotated[list[Any], Keyed("llmkit.rewards:REWARDS")] = field(default_factory=list)
    args: dict[str, Any] = field(default_factory=dict)
    peft: Annotated[dict[str, Any] | None, Passes("peft.LoraConfig")] = None
    patches: Patches = "auto"
    optimizer: Optimizer = "adamw"
    max_bad_rows: int = 0

    def facts(self, upstream: Mapping[str, Facts]) -> Facts:
        return upstream.get(self.model, Facts())

    def problems(self, upstream: Mapping[str, Facts]) -> Iterator[Problem]:
        base = upstream.get(self.model, Facts())
        if base.chat_template is False:
            remedy = "take a model whose tokenizer has a chat template"
            yield Problem(("model",), f"the tokenizer of {self.model} has no chat template", remedy)
        what = without_room(self.model, self.completion_length(), base.context_length)
        if what:
            remedy = "set args.max_completion_length lower"
            yield Problem(("args", "max_completion_length"), what, remedy)
        labels = [reward.label for reward in self.rewards]
        for index, label in enumerate(labels):
            if label in labels[:index]:
                yield Problem(("rewards", index), f"{label} stands there twice", "keep one")
        yield from self._argument_problems()

    def _argument_problems(self) -> Iterator[Problem]:
        # That there is no dropout may be said: it is so anyway.
        args = {k: v for k, v in self.args.items() if (k, v) != ("disable_dropout", True)}
        refused = {**REFUSED, **self.refused}
        yield from trainer_problems(args, refused, self.patches, self.optimizer, None)
        for key in ("max_completion_length", "temperature", "num_iterations"):
            if key in args and not (args[key] or 0) > 0:
                yield Problem(("args", key), f"{args[key]} is not positive")
        given = args.get("generation_kwargs")
        for key in given if isinstance(given, Mapping) else ():
            if key in (*REFUSED_GENERATION, "max_new_tokens"):
                remedy = "say args.max_completion_length and args.num_generations"
                yield Problem(("args", "generation_kwargs", key), "has no place here", remedy)
        if "fused_head_loss" in self.patches:
            remedy = "leave it out: TRL's trainer has its own"
            yield Problem(("patches",), "fused_head_loss does not go with TRL", remedy)
        if self.max_bad_rows < 0:
            yield Problem(("max_bad_rows",), f"{self.max_bad_rows} is negative")

    def files(self) -> Iterator[Path]:
        for reward in self.rewards:
            yield from reward.files()

    def prepare(self, name: str) -> None:
        """Construct the Hugging Face configs, and load what is a stranger's code."""
        from llmkit.trainers.launch import check_muon

        check_muon(name, self.optimizer)
        if self.args.get("use_vllm") and importlib.util.find_spec("vllm") is None:
            what = "vllm is not installed"
            raise UserError(f"{name}.args.use_vllm", what, "pip install vllm, or leave it out")
        self._arguments(Path("."), 0, name)
        self._peft_config(name)
        for reward in self.rewards:
            reward.prepare()

    def completion_length(self) -> int:
        """Tokens that a completion may have, where `args` does not say it."""
        return int(self.args.get("max_completion_length") or 256)  # TRL's own

    def _config(self) -> type[Any]:
        """The class that `args` are for."""
        raise TypeError(f"{type(self).__name__} does not say what its arguments are")

    def _arguments(self, out: Path, seed: int, name: str) -> Any:
        from llmkit.trainers.arguments import training_arguments

        refused = {**REFUSED, **self.refused}
        own = {"max_completion_length": self.completion_length()}
        given = {key: value for key, value in self.args.items() if key not in refused}
        return training_arguments(self._config(), DEFAULTS | given | own, out, seed, f"{name}.args")

    def _peft_config(self, name: str, model: PreTrainedModel | None = None) -> LoraConfig | None:
        if self.peft is None:
            return None
        from llmkit.trainers.adapters import lora_config

        return lora_config(self.peft, name, "CAUSAL_LM", model)

    def _patches(self, model: PreTrainedModel) -> str | list[str]:
        """TRL's fused head must stay: its loss reads what only that head returns."""
        from llmkit.patch import automatic_patches

        return automatic_patches(model, own_loss=False) if self.patches == "auto" else self.patches

    def _reward_functions(
        self, context: Context, tokenizer: PreTrainedTokenizerFast, device: Any
    ) -> tuple[list[RewardFunction], list[float]]:
        """The functions of `rewards`, and their weights."""
        functions = [reward.callable(context.inputs, tokenizer, device) for reward in self.rewards]
        return functions, [reward.weight for reward in self.rewards]

    def _save(self, trainer: Any, generation: GenerationConfig, out: Path) -> None:
        """Write the policy, which generates as the model did that training began with."""
        from llmkit.trainers.adapters import merged
        from llmkit.trainers.session import save_model

        if self.peft is not None:
            merged(trainer, out / "adapter", self.model)
        vars(trainer.model).pop("forward", None)  # TRL bound its own on the instance
        trainer.model.generation_config = generation
        save_model(trainer, out)


def row_of(example: Example, task: str = "") -> Row:
    """A row of the trainers' data set."""
    details = json.dumps(dict(example.details), sort_keys=True)
    return {
        "prompt": example.prompt,
        "answer": example.answer,
        "details": details,
        "task": task,
    }


def fitting(
    rows: Sequence[Row], ids: Iterable[Sequence[int]], room: int, max_bad_rows: int, label: str
) -> list[Row]:
    """The rows whose prompts, as `ids`, have at most `room` tokens.

    Raises:
        InputError: more than `max_bad_rows` are longer, or none is left.
    """
    lengths = [len(prompt) for prompt in ids]
    kept = [row for row, length in zip(rows, lengths, strict=True) if length <= room]
    left_out = len(rows) - len(kept)
    if left_out > max_bad_rows or not kept:
        raise InputError(
            label,
            f"{left_out} of {len(rows)} prompts are longer than the {room} tokens that the model's "
            f"context leaves them (the longest has {max(lengths, default=0)})",
            "set args.max_completion_length lower, take shorter prompts, or let them be left out "
            f"with max_bad_rows (now {max_bad_rows})",
        )
    return kept


def check_enough(rows: list[Row], args: Any, name: str) -> None:
    """Raise UserError where the prompts do not fill one rollout: no step would be taken."""
    wanted = args.generation_batch_size // args.num_generations
    if len(rows) < wanted:
        raise UserError(
            name,
            f"there are {len(rows)} prompts, and one rollout takes {wanted} "
            f"(generation_batch_size {args.generation_batch_size} / num_generations "
            f"{args.num_generations})",
            "take more prompts, or set per_device_train_batch_size lower",
        )
