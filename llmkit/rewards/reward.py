"""What every reward is: a component that gives a function in TRL's signature, checked each time.

    function(prompts, completions, **columns) -> list[float]

One reward for each completion, in their order. `columns` are those of the prompts' rows, with
`ended` (whether each completion ended by itself) and what TRL adds; `prompts` and `completions`
are messages, or texts where prompts are texts.

TRL takes None for "does not apply", and counts it as nothing; a NaN it counts so too. Here neither
passes: a fault in a reward that reads as 0 is learnt from like any other reward.
Source: https://huggingface.co/docs/trl/grpo_trainer#using-a-custom-reward-function
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit.errors import LlmkitError, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

RewardFunction = Callable[..., list[float]]
SHOWN_CHARACTERS = 200  # of a prompt, in an error


@dataclass(frozen=True, kw_only=True)
class Reward:
    """Base of the rewards; their fields are the keys that a recipe gives them.

    Attributes:
        weight: what the reward is multiplied by before all of them are added.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight) or self.weight == 0:
            raise ValueError(f"weight: {self.weight} is no weight; leave the reward out instead")

    @property
    def label(self) -> str:
        """How curves and errors name the reward."""
        raise TypeError(f"{type(self).__name__} has no label")

    def files(self) -> Iterator[Path]:
        """Local files that the reward reads, and no stage made."""
        yield from ()

    def prepare(self) -> None:
        """Before the first stage of a run: raise UserError where the reward cannot work."""

    def callable(
        self, inputs: Mapping[str, Path | str], tokenizer: PreTrainedTokenizerFast, device: Any
    ) -> RewardFunction:
        """The reward function, checked. `inputs` and `tokenizer` are the stage's."""
        return checked(self.label, self._function(inputs, tokenizer, device))

    def _function(
        self, inputs: Mapping[str, Path | str], tokenizer: PreTrainedTokenizerFast, device: Any
    ) -> RewardFunction:
        raise TypeError(f"{type(self).__name__} gives no function")


def checked(label: str, function: RewardFunction) -> RewardFunction:
    """`function`, stopping with a UserError where it fails or gives anything but numbers."""

    def call(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        try:
            rewards = function(prompts=prompts, completions=completions, **columns)
        except LlmkitError:  # says itself what is wrong
            raise
        except Exception as error:  # a stranger's code may raise anything
            index = _first_failing(function, prompts, completions, columns)
            where = "" if index is None else f" on the prompt {shown(prompts[index])}"
            what = f"fails{where}: {type(error).__name__}: {error}"
            remedy = "mend the function; nothing is scored 0 in its place"
            raise UserError(f"reward {label}", what, remedy) from error
        return _numbers(label, rewards, prompts)

    call.__name__ = label
    return call


def _first_failing(
    function: RewardFunction,
    prompts: Sequence[Any],
    completions: Sequence[Any],
    columns: Mapping[str, Any],
) -> int | None:
    """The row that the function fails on when it is asked one by one; None if it fails on none."""
    for index in range(len(prompts)):
        alone = {
            name: values[index : index + 1]
            if isinstance(values, list) and len(values) == len(prompts)
            else values
            for name, values in columns.items()
        }
        row = slice(index, index + 1)
        try:
            function(prompts=prompts[row], completions=completions[row], **alone)
        except Exception:  # the same stranger's code: that it fails here is the answer
            return index
    return None


def _numbers(label: str, rewards: Any, prompts: Sequence[Any]) -> list[float]:
    """The rewards as floats, one a prompt."""
    remedy = "return one finite number for each completion, 0.0 where the reward does not apply"
    if isinstance(rewards, str | Mapping) or not isinstance(rewards, Iterable):
        what = f"returned {type(rewards).__name__}, not a list of numbers"
        raise UserError(f"reward {label}", what, remedy)
    rewards = list(rewards)
    if len(rewards) != len(prompts):
        what = f"returned {len(rewards)} rewards for {len(prompts)} completions"
        raise UserError(f"reward {label}", what, remedy)
    for index, reward in enumerate(rewards):
        fault = _fault(reward)
        if fault:
            what = f"returned {fault} for the prompt {shown(prompts[index])}"
            raise UserError(f"reward {label}", what, remedy)
    return [float(reward) for reward in rewards]


def _fault(reward: Any) -> str:
    """What is wrong with one reward; nothing where it is a finite number."""
    if reward is None:
        return "None"
    try:
        number = float(reward)
    except (TypeError, ValueError):
        return f"{reward!r}, which is no number"
    return "" if math.isfinite(number) else str(number)


def shown(prompt: Any) -> str:
    """The last words of a prompt, as an error quotes them."""
    text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    cut = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
    return repr(cut)


def text_of(completion: Any) -> str:
    """What the model wrote: TRL gives messages for a chat, a text for a text."""
    return completion if isinstance(completion, str) else str(completion[-1]["content"])
