"""What each kind of training stage asks of the hardware in a step, read from its arguments.

Lengths that only the data can tell are taken at their most: every row as long as `max_length`, or
as the model's context. Figures of stages with padded rows are therefore upper bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llmkit.cost.memory import Load
from llmkit.cost.shapes import Shape
from llmkit.fields import fields_of
from llmkit.patch import AUTOMATIC

PRETRAIN = "transformers.TrainingArguments"
LORA = 0.01  # of the parameters, where `peft` trains an adapter: an order of magnitude
NO_STEPS = "steps: the data decides, until args.max_steps is given"


@dataclass(frozen=True, kw_only=True)
class Work:
    """A training stage's work.

    Attributes:
        steps: updates; None where only the data can tell.
        tokens_per_step: that are read in a step, by all ranks.
        context: tokens a row.
        trainings: forward and backward passes over each of these tokens.
        forwards: forward passes alone over each of them.
        generated: tokens that are sampled in a step by each rank, `at_once` rows at a time.
        at_most: whether rows may be shorter than they are counted here.
        odd: the tokens that are asked of a step, where the ranks cannot share them out.
    """

    steps: int | None
    tokens_per_step: int
    context: int
    load: Load
    trainings: float = 1.0
    forwards: float = 0.0
    generated: float = 0.0
    at_once: int = 1
    at_most: bool = False
    odd: int | None = None


@dataclass(frozen=True)
class Settings:
    """A stage's arguments with Hugging Face's defaults, and the ranks and device they meet."""

    stage: Any
    given: Mapping[str, Any]
    config: str
    ranks: int
    half: bool
    device: str

    def __getitem__(self, name: str) -> Any:
        kind = fields_of(self.config).get(name)
        return self.given.get(name, kind.default if kind is not None else None)

    @property
    def steps(self) -> int | None:
        steps = self.given.get("max_steps", -1)
        return steps if steps > 0 else None

    @property
    def rows(self) -> int:
        return int(self["per_device_train_batch_size"])

    @property
    def patches(self) -> tuple[str, ...]:
        """As `auto` will choose there. TRL's trainers have a fused head of their own."""
        asked = getattr(self.stage, "patches", "none")
        if isinstance(asked, str):
            asked = AUTOMATIC[self.device] if asked == "auto" else ()
        own = () if self.config == PRETRAIN else ("fused_head_loss",)
        return (*asked, *own)

    def passes(self, tokens_a_row: int) -> int:
        """Passes in a step: given, or what `tokens_per_step` comes to on these ranks."""
        wanted = getattr(self.stage, "tokens_per_step", None)
        if wanted is None:
            return int(self["gradient_accumulation_steps"])
        return max(1, -(-wanted // (self.rows * tokens_a_row * self.ranks)))

    def load(self, rows: int, length: int, passes: int, **more: Any) -> Load:
        recompute = self.given.get(
            "activation_checkpointing", self.given.get("gradient_checkpointing", False)
        )
        muon = getattr(self.stage, "optimizer", "adamw") != "adamw"
        optimizer = "muon" if muon else str(self.given.get("optim", "adamw"))
        return Load(
            rows=rows,
            length=length,
            passes=passes,
            half=self.half,
            patches=self.patches,
            recompute=bool(recompute),
            optimizer=optimizer,
            trained=LORA if getattr(self.stage, "peft", None) else 1.0,
            ranks=self.ranks,
            **more,
        )


def pretrain(given: Settings, shape: Shape, context: int) -> Work:
    passes = given.passes(context)
    step = given.rows * passes * given.ranks * context
    wanted = given.stage.tokens_per_step
    odd = None if wanted in (None, step) else wanted
    load = given.load(given.rows, context, passes)
    return Work(steps=given.steps, tokens_per_step=step, context=context, load=load, odd=odd)


def sft(given: Settings, shape: Shape, context: int) -> Work:
    length = min(given.given.get("max_length") or context, context)
    passes = given.passes(length)
    return Work(
        steps=given.steps,
        tokens_per_step=given.rows * passes * given.ranks * length,
        context=length,
        load=given.load(given.rows, length, passes),
        at_most=True,
    )


def pairs(given: Settings, shape: Shape, context: int, reference: bool, head: bool) -> Work:
    length = min(given.given.get("max_length") or context, context)
    rows = 2 * given.rows
    passes = given.passes(2 * length)
    spared = bool(getattr(given.stage, "peft", None) or given["precompute_ref_log_probs"])
    looking = 1 if reference else 0
    return Work(
        steps=given.steps,
        tokens_per_step=rows * passes * given.ranks * length,
        context=length,
        load=given.load(rows, length, passes, forwards=0 if spared else looking, head_loss=head),
        forwards=looking,
        at_most=True,
    )


def reward(given: Settings, shape: Shape, context: int) -> Work:
    return pairs(given, shape, context, reference=False, head=False)


def dpo(given: Settings, shape: Shape, context: int) -> Work:
    return pairs(given, shape, context, reference=True, head=True)


def groups(given: Settings, shape: Shape, context: int) -> Work:
    """GRPO and RLOO: completions are read once for each iteration, and sampled for all of them."""
    completion = given.stage.completion_length()
    rows, passes = given.rows, given.passes(context)
    iterations = int(given["num_iterations"] or 1)
    reference = 1 if given["beta"] and not getattr(given.stage, "peft", None) else 0
    step = rows * passes * given.ranks * context
    return Work(
        steps=given.steps,
        tokens_per_step=step,
        context=context,
        load=given.load(rows, context, passes, forwards=reference),
        forwards=(1 + reference) / iterations,
        generated=rows * passes * completion / iterations,
        at_once=rows * passes,
        at_most=True,
    )


def ppo(given: Settings, shape: Shape, context: int) -> Work:
    """Policy and value model are trained; reference, reward model and both of them look once."""
    completion = int(given["max_completion_length"])
    rows, passes = given.rows, given.passes(context)
    epochs = int(given["num_ppo_epochs"])
    judges = sum(1 for source in given.stage.rewards if getattr(source, "model", None))
    return Work(
        steps=given.steps,
        tokens_per_step=rows * passes * given.ranks * context,
        context=context,
        load=given.load(rows, context, passes, trainings=2, forwards=1 + judges),
        trainings=2,
        forwards=(3 + judges) / epochs,
        generated=rows * passes * completion / epochs,
        at_once=rows * passes * int(given["num_mini_batches"]),
        at_most=True,
    )


# The kind of a stage -> its configuration class, and its work.
KINDS: dict[str, tuple[str, Callable[[Settings, Shape, int], Work]]] = {
    "pretrain": (PRETRAIN, pretrain),
    "sft": ("trl.SFTConfig", sft),
    "reward": ("trl.RewardConfig", reward),
    "dpo": ("trl.DPOConfig", dpo),
    "grpo": ("trl.GRPOConfig", groups),
    "rloo": ("trl.RLOOConfig", groups),
    "ppo": ("llmkit.PPOConfig", ppo),
}
