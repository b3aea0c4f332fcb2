"""The value model of PPO: what reward a text is still worth, told at each of its tokens.

It is an ordinary `AutoModelForTokenClassification` with one label (`GPT2ForTokenClassification`),
a transformer of its own: one that shared the policy's was measured to foresee returns worse. The
transformer begins as the policy's, or as a reward model's together with its head; a new head is 0,
so that the first values are 0 and not noise (Huang et al. 2023, "Value head initialization",
https://huggingface.co/blog/the_n_implementation_details_of_rlhf_with_ppo).
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForTokenClassification, PreTrainedModel

from llmkit.errors import InputError
from llmkit.model import without_bars
from llmkit.trainers.policy_forward import with_positions, without_dropout

FOLDER = "value_model"  # inside a policy's folder, and inside each checkpoint


def fresh_critic(source: PreTrainedModel) -> PreTrainedModel:
    """A value model that begins as `source`, a language model or a one-score reward model.

    Weights are copied, and dropout is off: what a value was when the tokens were drawn and what it
    is at the first update must be the same.

    Raises:
        InputError: transformers has no token classifier of this kind of model.
    """
    config = copy.deepcopy(source.config)
    config.num_labels = 1
    config.architectures = None
    try:
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are written over
            critic = AutoModelForTokenClassification.from_config(config)
    except ValueError as error:
        what = f"transformers has no token classifier for {config.model_type}"
        remedy = "give PPOTrainer a value_model of your own"
        raise InputError(source.name_or_path or "the model", what, remedy) from error
    critic.to(dtype=source.dtype, device=source.device)
    critic.base_model.load_state_dict(source.base_model.state_dict())
    head = head_of(critic)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        if is_reward(source):
            head.weight.copy_(source.get_submodule("score").weight)
    without_dropout(critic)
    return critic


def is_reward(model: PreTrainedModel) -> bool:
    """Whether it is a sequence classifier with one score."""
    return model.config.num_labels == 1 and "score" in dict(model.named_children())


def head_of(critic: PreTrainedModel) -> nn.Linear:
    """The one linear layer beside the transformer (`classifier`, or `score`)."""
    base = critic.base_model_prefix
    (head,) = (
        module
        for name, module in critic.named_children()
        if name != base and isinstance(module, nn.Linear)
    )
    return head


def load_critic(folder: Path | str) -> PreTrainedModel:
    """The value model that `save_critic` wrote beside a policy (or into a checkpoint).

    Raises:
        InputError: there is none, or it has weights missing.
    """
    where = Path(folder) / FOLDER
    if not (where / "config.json").is_file():
        raise InputError(str(where), "there is no value model", "name what a `ppo` stage made")
    with without_bars():
        critic, loaded = AutoModelForTokenClassification.from_pretrained(
            where, output_loading_info=True, use_safetensors=True, dtype="auto"
        )
    if loaded["missing_keys"] or critic.config.num_labels != 1:
        raise InputError(str(where), "is no complete value model", "train it again")
    without_dropout(critic)
    return critic


def save_critic(critic: PreTrainedModel, folder: Path | str) -> None:
    """Write the value model to `folder/value_model`, as `from_pretrained` reads it."""
    with without_bars():
        critic.save_pretrained(Path(folder) / FOLDER)


def token_values(
    critic: nn.Module,
    input_ids: Tensor,  # (B, P + T): prompts padded on the left, completions on the right
    attention_mask: Tensor,  # (B, P + T)
    tokens: int,  # T
    positions: bool = True,
) -> Tensor:
    """(B, T): what the text before each of the last `tokens` tokens is worth, in float32.

    Args:
        critic: the value model, or the wrapper that accelerate prepared.
        positions: whether its forward takes `position_ids`.
    """
    forward = with_positions(critic) if positions else critic
    logits = forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
    values: Tensor = logits[:, -tokens - 1 : -1, 0].float()
    return values
