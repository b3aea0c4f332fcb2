"""Recipes small enough to plan by hand, for the tests of `llmkit plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmkit.plan import Plan, plan

HEAD = """\
stages:
  curate: {sources: [{tinyworld: {num_documents: 9}}]}
  tokenizer: {vocab_size: 50257}
  tokenize: {context_length: 1024}
"""

LADDER = """\
  sft:
    model: pretrain
    dataset: [{tinyworld: conversations}]
    args: {max_steps: 10, max_length: 512}
  reward: {model: sft, dataset: [{tinyworld: preferences}], args: {max_steps: 10}}
  dpo: {model: sft, dataset: [{tinyworld: preferences}], args: {max_steps: 10}}
  ppo:
    model: sft
    rewards: [{model: reward}]
    dataset: [{tinyworld: prompts}]
    args: {max_steps: 8, per_device_train_batch_size: 16, num_ppo_epochs: 2}
  grpo:
    model: dpo
    tasks: [tinyworld_sums]
    args: {max_steps: 10, per_device_train_batch_size: 16}
  evaluate: {models: [sft], tasks: [tinyworld_sums]}
"""


def planned(folder: Path, stages: str, hardware: str = "8xA100", **more: Any) -> Plan:
    file = folder / "r.yaml"
    file.write_text(HEAD + stages)
    return plan(file, hardware, **more)


def gpt2(layers: int, width: int, heads: int, more: str = "", args: str = "") -> str:
    config = f"{{n_layer: {layers}, n_embd: {width}, n_head: {heads}, resid_pdrop: 0.0, "
    config += "embd_pdrop: 0.0, attn_pdrop: 0.0}"
    return (
        f"  pretrain:\n    config: {config}\n    patches: [gelu, fused_head_loss]\n{more}"
        f"    args: {{per_device_train_batch_size: 16, bf16: true{args}}}\n"
    )
