"""A tiny policy, prompts of unequal length and a reward, for PPO; all made inside the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_chat import tiny_model, tiny_tokenizer

ASKED = ["a", "bread", "sky?", "Who bakes the bread?", "the sea is blue too", "I", "town", "Anna"]


def vowels(completions: list[Any], **columns: Any) -> list[float]:
    """The share of vowels in what was said."""
    said = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
    return [sum(letter in "aeiou" for letter in text) / max(1, len(text)) for text in said]


# Rollouts of 8 completions of 6 tokens, 2 epochs of 2 updates, two rollouts.
CONFIG: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "num_mini_batches": 2,
    "num_ppo_epochs": 2,
    "max_steps": 8,
    "max_completion_length": 6,
    "learning_rate": 1e-3,
    "logging_steps": 4,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
}


def ppo_config(folder: Path, **changes: Any) -> Any:
    from llmkit.trainers.arguments import checkpointing
    from llmkit.trainers.ppo_config import PPOConfig

    given = CONFIG | {"output_dir": str(folder)} | changes
    return PPOConfig(**checkpointing(PPOConfig, given))


def ppo_trainer(folder: Path, **changes: Any) -> Any:
    """A PPOTrainer; what is no argument of its own is one of `ppo_config`."""
    from datasets import Dataset

    from llmkit.trainers.ppo import PPOTrainer

    own = ("value_model", "kl_bound", "context", "peft_config", "optimizer", "reward_funcs")
    given = {name: changes.pop(name) for name in own if name in changes}
    tokenizer = tiny_tokenizer()
    model = changes.pop("model", None) or tiny_model(tokenizer)
    prompts = [[{"role": "user", "content": text}] for text in changes.pop("asked", ASKED * 4)]
    return PPOTrainer(
        model=model,
        args=ppo_config(folder, **changes),
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=tokenizer,
        **({"reward_funcs": vowels} | given),
    )


def make_inputs(folder: Path) -> None:
    """`base/`, a reward model `scorer/` of the same tokenizer, and `prompts.jsonl`."""
    import json

    import torch
    from tiny_chat import tiny_folder
    from transformers import AutoConfig, GPT2ForSequenceClassification

    from llmkit.model import without_bars

    tiny_folder(folder / "base")
    config = AutoConfig.from_pretrained(folder / "base", num_labels=1)
    torch.manual_seed(1)
    with without_bars():
        GPT2ForSequenceClassification(config).save_pretrained(folder / "scorer")
    tiny_tokenizer().save_pretrained(folder / "scorer")
    rows = "".join(json.dumps({"prompt": text}) + "\n" for text in ASKED * 4)
    (folder / "prompts.jsonl").write_text(rows, encoding="utf-8")


def tiny_stage(folder: Path, **changes: Any) -> Any:
    """Five rollouts of 8 completions, rewarded by `vowels` and a reward model."""
    from llmkit.data.chat.prompts import PathPrompts
    from llmkit.rewards.function import FunctionReward
    from llmkit.rewards.model import ModelReward
    from llmkit.stages.ppo import PPO

    args = {
        "per_device_train_batch_size": 4,
        "num_mini_batches": 2,
        "num_ppo_epochs": 2,
        "max_steps": 20,
        "max_completion_length": 6,
        "learning_rate": 1e-3,
        "save_steps": 4,
        "use_cpu": True,
        **changes.pop("args", {}),
    }
    given: dict[str, Any] = {
        "model": "base",
        "dataset": (PathPrompts(path=str(folder / "prompts.jsonl")),),
        "rewards": (
            FunctionReward(function="tiny_ppo:vowels"),
            ModelReward(model="scorer", weight=0.5),
        ),
        "patches": "none",
    }
    return PPO(args=args, **(given | changes))


def context_in(folder: Path, out: Path, **settings: Any) -> Any:
    from llmkit.stage import Context

    out.mkdir(parents=True, exist_ok=True)
    inputs = {"base": folder / "base", "scorer": folder / "scorer"}
    return Context(name="ppo", out=out, seed=3, inputs=inputs, **settings)
