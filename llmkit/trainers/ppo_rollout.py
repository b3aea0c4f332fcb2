"""What one rollout of PPO holds on one rank, and how it is cut into the batches of its updates.

Every completion of the rollout is in one update of each epoch. Inside an update, which gradient
accumulation cuts into micro-batches, the long rows come first, and each micro-batch is as wide as
its own longest rows: the losses are summed over the tokens of the whole update, so that it is the
same update with less padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

Batch = dict[str, Any]

PROMPT = ("prompt_ids", "prompt_mask")  # (B, P), padded on the left
# The rest is (B, T), padded on the right; what is worked out from the completions begins as 0.
COMPLETION = ("completion_ids", "completion_mask")
WORKED_OUT = ("log_probs", "reference", "values", "advantages", "returns", "entropy")


class Rollout:
    """Prompts with their completions, padded to one width, and what is known of each token.

    Attributes:
        tensors: name -> (B, P) for `PROMPT`, (B, T) for `COMPLETION` and `WORKED_OUT`.
        widths: (B, 2) tokens of each prompt and of its completion, on the CPU.
        scores: (B,) of the completions.
        rewards: (B,) what each reward function gave, by its name.
        kl: (B,) nats that each completion is away from the reference.
        ended: completions that ended by themselves.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        pad_token_id: int,
        device: torch.device | str,
    ) -> None:
        self.widths = torch.tensor(
            [[len(p), len(c)] for p, c in zip(prompts, completions, strict=True)]
        )
        self.tensors: dict[str, Tensor] = {}
        for rows, names, side in (
            (prompts, PROMPT, "left"),
            (completions, COMPLETION, "right"),
        ):
            ids = [torch.tensor(row, dtype=torch.long) for row in rows]
            padded = pad_sequence(ids, True, pad_token_id, side)
            mask = pad_sequence([torch.ones_like(row) for row in ids], True, 0, side)
            self.tensors |= {names[0]: padded.to(device), names[1]: mask.to(device)}
        shape = self.tensors["completion_ids"].shape
        self.scores = self.kl = torch.zeros(shape[0], device=device)
        self.rewards: dict[str, Tensor] = {}
        self.ended = 0
        self.tensors |= {name: torch.zeros(shape, device=device) for name in WORKED_OUT}

    def __len__(self) -> int:
        return len(self.widths)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def order(self, updates: int, parts: int, generator: torch.Generator) -> list[list[Tensor]]:
        """All rows in a new order: `updates` lists of `parts` micro-batches, as row numbers."""
        device = generator.device
        order = torch.randperm(len(self), generator=generator, device=device).cpu()
        found = []
        for rows in order.chunk(updates):
            by_length = self.widths.sum(1)[rows].argsort(descending=True, stable=True)
            found.append(list(rows[by_length].chunk(parts)))
        return found

    def batch(self, rows: Tensor) -> Batch:
        """The tensors of `rows`, as wide as the longest of their prompts and of their completions.

        With `input_ids` and `attention_mask` (B, P + T) of both together.
        """
        prompt, completion = self.widths[rows].amax(0).tolist()
        at, padding = rows.to(self["prompt_ids"].device), self["prompt_ids"].shape[1] - prompt
        found: Batch = {name: self[name][at, padding:] for name in PROMPT}
        found |= {name: self[name][at, :completion] for name in (*COMPLETION, *WORKED_OUT)}
        ids, masks = zip(PROMPT, COMPLETION, strict=True)
        found["input_ids"] = torch.cat([found[name] for name in ids], 1)
        found["attention_mask"] = torch.cat([found[name] for name in masks], 1)
        return found

    def put(self, rows: Tensor, **worked_out: Tensor) -> None:
        """Keep what was worked out (B, T) for the batch of `rows`."""
        for name, values in worked_out.items():
            at = rows.to(values.device)
            self[name][at, : values.shape[1]] = values.to(self[name].dtype)
