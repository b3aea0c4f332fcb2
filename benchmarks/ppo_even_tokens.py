"""PPO on a task whose answer is known: prefer even token ids, at a price in KL.

    python benchmarks/ppo_even_tokens.py [--rollouts 150] [--seed 0] [--output FILE]

A random GPT-2 draws 16 tokens from 512 nearly equal ones; the reward is the share of even ids, the
KL coefficient is b. The best policy is known (https://arxiv.org/abs/2305.18290, equation 4):

    p(even) = e^(1/16b) / (1 + e^(1/16b))         KL = 16 (ln 2 + p ln p + (1 - p) ln(1 - p))

which for b = 0.05 is p = 0.777 and KL = 2.60 nats a completion.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import ForeignTime, write_result

VOCABULARY, PROMPT, TOKENS = 512, 4, 16


def optimum(kl_coef: float) -> tuple[float, float]:
    """Share of even ids, and nats a completion, of the best policy."""
    p = 1 / (1 + math.exp(-1 / (TOKENS * kl_coef)))
    return p, TOKENS * (math.log(2) + p * math.log(p) + (1 - p) * math.log(1 - p))


def words_tokenizer() -> Any:
    """One word an id: `t7` is 7; the last two ids end and pad."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"t{number}": number for number in range(VOCABULARY)}
    backend = Tokenizer(models.WordLevel(words, unk_token="t0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    eos, pad = f"t{VOCABULARY - 1}", f"t{VOCABULARY - 2}"
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=eos, pad_token=pad)


def even_share(completion_ids: list[list[int]], **columns: Any) -> list[float]:
    return [sum(token % 2 == 0 for token in row) / TOKENS for row in completion_ids]


def trainer_for(folder: str, rollouts: int, seed: int = 0, **changes: Any) -> Any:
    """The PPOTrainer of the task: 64 completions a rollout, 4 epochs of 2 updates."""
    import torch
    from datasets import Dataset
    from transformers import GPT2Config, GPT2LMHeadModel

    from llmkit.trainers.arguments import checkpointing
    from llmkit.trainers.ppo import PPOTrainer
    from llmkit.trainers.ppo_config import PPOConfig

    tokenizer = words_tokenizer()
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=PROMPT + TOKENS,
            n_layer=2,
            n_head=2,
            n_embd=64,
            bos_token_id=VOCABULARY - 1,
            eos_token_id=VOCABULARY - 1,
            pad_token_id=VOCABULARY - 2,
        )
    )
    drawn = torch.randint(VOCABULARY - 2, (64 * rollouts, PROMPT)).tolist()
    prompts = [" ".join(f"t{token}" for token in row) for row in drawn]
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 32,
        "num_mini_batches": 2,
        "num_ppo_epochs": 4,
        "max_steps": rollouts * 8,
        "max_completion_length": TOKENS,
        "learning_rate": 2e-3,
        "lr_scheduler_type": "linear",
        "kl_coef": 0.05,
        "logging_steps": 8,
        "seed": seed,
    }
    args = PPOConfig(
        output_dir=folder,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
        **checkpointing(PPOConfig, settings | changes),
    )
    return PPOTrainer(
        model=model,
        args=args,
        reward_funcs=even_share,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=tokenizer,
    )


def measured(rollouts: int, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """Train; the curve, and the means of its last tenth."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_for(folder, rollouts, seed, **changes)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    curve = [row for row in trainer.state.log_history if "objective/scores" in row]
    last = curve[-max(1, len(curve) // 10) :]
    figures = {
        name.split("/")[1]: sum(row[name] for row in last) / len(last)
        for name in ("objective/scores", "objective/kl", "val/explained_variance")
    }
    return figures | {
        "first_ratio": trainer.first_ratio,
        "seconds": round(seconds, 1),
        "curve": [round(row["objective/scores"], 3) for row in curve],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rollouts", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    foreign = ForeignTime()
    best, kl = optimum(0.05)
    found = measured(given.rollouts, given.seed)
    for number in range(0, given.rollouts, max(1, given.rollouts // 10)):
        print(f"rollout {number:4d}  even {found['curve'][number]:.3f}")
    print(f"last tenth: even {found['scores']:.3f} (best {best:.3f}), ", end="")
    print(f"KL {found['kl']:.2f} (best {kl:.2f}), explained variance ", end="")
    print(f"{found['explained_variance']:.2f}, {found['seconds']} s")
    settings = {"rollouts": given.rollouts, "seed": given.seed, "threads": given.threads}
    result = {**settings, "best": {"scores": best, "kl": kl}, **found}
    write_result("ppo_even_tokens", result, foreign.share(), given.output)


if __name__ == "__main__":
    main()
