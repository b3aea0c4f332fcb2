"""The PPO that TRL had until 1.12, on the task of `ppo_even_tokens.py`, which starts this script.

    PYTHONPATH=FOLDER python benchmarks/ppo_peer.py ROLLOUTS SEED THREADS

`FOLDER` is made by `pip install --target FOLDER --no-deps trl==1.12.0`. The last line of the output
is JSON. What llmkit calls a rollout is here `per_device_train_batch_size` times
`gradient_accumulation_steps`; the reward has to be a module.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
import time
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset
from ppo_even_tokens import TOKENS, last_tenth, policy_and_prompts, words_tokenizer
from transformers import GPT2ForSequenceClassification, TrainerCallback
from trl import __version__ as trl_version
from trl.experimental.ppo import PPOConfig, PPOTrainer


class EvenShare(torch.nn.Module):
    """A "reward model" whose score is the share of even ids among the last TOKENS."""

    base_model_prefix = "backbone"

    def backbone(self, input_ids: torch.Tensor, **kwargs: Any) -> Any:
        return SimpleNamespace(hidden_states=(input_ids[..., None],))

    def score(self, ids: torch.Tensor) -> torch.Tensor:
        even = (ids[:, -TOKENS:] % 2 == 0).float().mean(dim=1, keepdim=True)
        return even.expand(ids.shape).contiguous()  # whichever place it is read at


class Curve(TrainerCallback):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "objective/scores" in logs:
            self.rows.append(logs)


def main() -> None:
    rollouts, seed, threads = (int(word) for word in sys.argv[1:])
    torch.set_num_threads(threads)
    model, prompts = policy_and_prompts(rollouts, seed)
    critic = GPT2ForSequenceClassification(copy.deepcopy(model.config))
    critic.config.num_labels = 1
    critic.score = torch.nn.Linear(model.config.n_embd, 1, bias=False)
    critic.transformer.load_state_dict(model.transformer.state_dict())
    curve = Curve()
    with tempfile.TemporaryDirectory() as folder:
        args = PPOConfig(
            output_dir=folder, per_device_train_batch_size=32, gradient_accumulation_steps=2,
            num_mini_batches=2, num_ppo_epochs=4, total_episodes=64 * rollouts,
            response_length=TOKENS, temperature=1.0, learning_rate=2e-3,
            lr_scheduler_type="linear", kl_coef=0.05, num_sample_generations=0, seed=seed,
            save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True, bf16=False,
            logging_steps=1, gradient_checkpointing=False,
        )  # fmt: skip
        trainer = PPOTrainer(
            args=args, processing_class=words_tokenizer(), model=model,
            ref_model=copy.deepcopy(model), reward_model=EvenShare(), value_model=critic,
            train_dataset=Dataset.from_dict({"input_ids": prompts}),
            eval_dataset=Dataset.from_dict({"input_ids": prompts[:64]}), callbacks=[curve],
        )  # fmt: skip
        began = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - began
    scores = [row["objective/scores"] for row in curve.rows]
    found: dict[str, Any] = {"version": trl_version, "seconds": round(seconds, 1)}
    found |= last_tenth(curve.rows, ("objective/scores", "objective/kl"))
    print(json.dumps(found | {"curve": [round(score, 3) for score in scores]}))


if __name__ == "__main__":
    main()
