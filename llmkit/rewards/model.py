"""`{model: reward}`: the score of a reward model that an earlier stage made, or a Hub id's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from llmkit.rewards.reward import Reward, RewardFunction, text_of
from llmkit.schema import Refers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BATCH_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class ModelReward(Reward):
    """The reward model reads messages by its own tokenizer and chat template.

    So it need not be of the policy's family. An answer that was cut off is scored without its end
    of turn.
    """

    model: Annotated[str, Refers("reward_model")]
    revision: str | None = None

    @property
    def label(self) -> str:
        return Path(self.model).name

    def _function(
        self, inputs: Mapping[str, Path | str], tokenizer: PreTrainedTokenizerFast, device: Any
    ) -> RewardFunction:
        from llmkit.reward_model import load_reward_model, scores

        model, own_tokenizer = load_reward_model(inputs[self.model], self.revision)
        model.to(device)

        def function(
            prompts: Sequence[Any], completions: Sequence[Any], ended: Sequence[bool], **_: Any
        ) -> list[float]:
            chats = [
                [*as_messages(prompt), {"role": "assistant", "content": text_of(completion)}]
                for prompt, completion in zip(prompts, completions, strict=True)
            ]
            return scores(model, own_tokenizer, chats, BATCH_SIZE, ended=ended)

        return function


def as_messages(prompt: Any) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
