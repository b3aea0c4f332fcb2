"""PPO on a task whose answer is known: prefer even token ids, at a price in KL.

    python benchmarks/ppo_even_tokens.py [--rollouts 150] [--seed 0] [--trl FOLDER] [--output FILE]

A random GPT-2 draws 16 tokens from 512 nearly equal ones; the reward is the share of even ids, the
KL coefficient is b. The best policy is known (https://arxiv.org/abs/2305.18290, equation 4):

    p(even) = e^(1/16b) / (1 + e^(1/16b))         KL = 16 (ln 2 + p ln p + (1 - p) ln(1 - p))

which for b = 0.05 is p = 0.777 and KL = 2.60 nats a completion.

`--trl` is a folder with the last TRL that had a PPO, which then learns the same task from the same
model (`ppo_peer.py`): `pip install --target FOLDER --no-deps trl==1.12.0`. They run
one after the other.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
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


def policy_and_prompts(rollouts: int, seed: int) -> tuple[Any, list[list[int]]]:
    """A random GPT-2 of 2 x 64, and `rollouts` times 64 prompts of ids (64 * rollouts, PROMPT)."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

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
    return model, torch.randint(VOCABULARY - 2, (64 * rollouts, PROMPT)).tolist()


def trainer_for(folder: str, rollouts: int, seed: int = 0, **changes: Any) -> Any:
    """The PPOTrainer of the task: 64 completions a rollout, 4 epochs of 2 updates."""
    from datasets import Dataset

    from llmkit.trainers.arguments import checkpointing
    from llmkit.trainers.ppo import PPOTrainer
    from llmkit.trainers.ppo_config import PPOConfig

    model, drawn = policy_and_prompts(rollouts, seed)
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
        processing_class=words_tokenizer(),
    )


def measured(rollouts: int, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """Train; the curve, and the means of its last tenth."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_for(folder, rollouts, seed, **changes)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    curve = [row for row in trainer.state.log_history if "objective/scores" in row]
    names = ("objective/scores", "objective/kl", "val/explained_variance")
    return last_tenth(curve, names) | {
        "first_ratio": trainer.first_ratio,
        "seconds": round(seconds, 1),
        "curve": [round(row["objective/scores"], 3) for row in curve],
    }


def last_tenth(curve: list[dict[str, float]], names: Sequence[str]) -> dict[str, float]:
    """Means of the last rows, by the names' last parts."""
    last = curve[-max(1, len(curve) // 10) :]
    return {name.split("/")[1]: sum(row[name] for row in last) / len(last) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rollouts", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--trl", type=Path, help="a folder with TRL 1.12, to compare with")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    foreign = ForeignTime()
    best, kl = optimum(0.05)
    result: dict[str, Any] = {"rollouts": given.rollouts, "seed": given.seed}
    result |= {"threads": given.threads, "best": {"scores": best, "kl": kl}}
    result |= measured(given.rollouts, given.seed)
    if given.trl is not None:
        result["trl"] = by_trl(given.trl, given.rollouts, given.seed, given.threads)
    columns = {"llmkit": result} | ({"TRL's PPO": result["trl"]} if "trl" in result else {})
    for number in range(0, given.rollouts, max(1, given.rollouts // 10)):
        shares = "  ".join(f"{name} {each['curve'][number]:.3f}" for name, each in columns.items())
        print(f"rollout {number:4d}  even: {shares}")
    print(f"best: even {best:.3f}, KL {kl:.2f} nats a completion. Means of the last tenth:")
    for name, each in columns.items():
        print(f"{name:10} even {each['scores']:.3f}, KL {each['kl']:.2f}, {each['seconds']} s")
    print(f"explained variance of llmkit's values: {result['explained_variance']:.2f}")
    write_result("ppo_even_tokens", result, foreign.share(), given.output)


def by_trl(folder: Path, rollouts: int, seed: int, threads: int) -> dict[str, Any]:
    """What `ppo_peer.py` finds, in a process whose `trl` is that of `folder`."""
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{here}"}
    command = [sys.executable, str(here / "ppo_peer.py"), str(rollouts), str(seed), str(threads)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
