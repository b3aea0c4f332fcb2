"""The decoding loop: prompts in, tokens out, rows that have ended left out of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from llmkit.decoding.gpt2 import GPT2Decoder
from llmkit.decoding.sampling import Sampler, log_probability
from llmkit.errors import InputError
from llmkit.patch import automatic_patches, patched

# Steps from one look at which rows have ended to the next: a look waits for all that a GPU was
# asked to do, and on a CPU it is free.
LOOK_EVERY = {"cpu": 1, "cuda": 16}
FULL_ENOUGH = 7 / 8  # of a batch; with fewer rows going on, the others are dropped from it


@dataclass(frozen=True)
class Decoded:
    """Completions in the order of the prompts.

    Attributes:
        ids: the new tokens, with the stop token that ended them.
        ended: whether a stop token did.
        log_probabilities: of each of these tokens; see `llmkit.decode.sample`.
    """

    ids: list[list[int]]
    ended: list[bool]
    log_probabilities: list[list[float]] | None = None


@torch.inference_mode()
def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    uniforms: Tensor | None = None,
    log_probabilities: bool = False,
) -> Decoded:
    """Continue `prompts` by a GPT2LMHeadModel in evaluation mode, all as one batch.

    Row i draws its token t with uniforms[i, t]; where there are none, decoding is greedy.
    """
    rows = Rows(len(prompts), config, model.device, log_probabilities)
    with patched(model, automatic_patches(model, own_loss=False)):
        _run(model, prompts, config, uniforms, rows)
    return rows.decoded()


def _run(
    model: Any,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    uniforms: Tensor | None,
    rows: Rows,
) -> None:
    decoder, sampler = GPT2Decoder(model, config.max_new_tokens), Sampler(config)
    look_every = LOOK_EVERY.get(model.device.type, 1)
    drawn = None if uniforms is None else uniforms.to(model.device).T.contiguous()  # (T, b)
    scores = sampler.scores(decoder.read(prompts))
    for step in range(config.max_new_tokens):
        tokens, witness = sampler.take(scores, None if drawn is None else drawn[step])
        rows.write(step, scores, tokens, witness)
        if step + 1 == config.max_new_tokens:
            break
        if (step + 1) % look_every == 0 and (going := rows.going()) is not None:
            if not len(going):
                break
            rows.keep(going)
            decoder.keep(going)
            tokens, drawn = tokens[going], None if drawn is None else drawn[:, going]
        scores = sampler.scores(decoder.step(tokens))


class Rows:
    """What the rows of a batch have written, and which of them are in it still.

    Attributes:
        numbers: (b,) of the rows that are in the batch.
        ended: (b,) whether a stop token came.
        witness: a number that is finite if all scores were that a token was taken from.
        written, scored: (T, B) tokens and their log-probabilities; void after a row's end.
    """

    def __init__(
        self, size: int, config: GenerationConfig, device: torch.device, scored: bool
    ) -> None:
        self.stops = stops_of(config)
        self.stop_tokens = torch.tensor(self.stops, dtype=torch.long, device=device)
        self.numbers = torch.arange(size, device=device)
        self.ended = torch.zeros(size, dtype=torch.bool, device=device)
        self.witness = torch.zeros((), device=device)
        shape = (config.max_new_tokens, size)
        self.written = torch.zeros(shape, dtype=torch.long, device=device)
        self.scored = torch.zeros(shape, device=device) if scored else None

    def write(self, step: int, scores: Tensor, tokens: Tensor, witness: Tensor) -> None:
        """Each row's token (b,), taken from scores (b, V), with the sampler's witness (b,)."""
        self.written[step].index_copy_(0, self.numbers, tokens)
        if self.scored is not None:
            self.scored[step].index_copy_(0, self.numbers, log_probability(scores, tokens))
        self.witness += witness.sum()
        if self.stops:
            self.ended |= (tokens[:, None] == self.stop_tokens).any(1)

    def going(self) -> Tensor | None:
        """Which rows to go on with, by their places in the batch; None for all that are in it."""
        if not self.stops:
            return None
        going = (~self.ended).nonzero()[:, 0]
        return None if len(going) > FULL_ENOUGH * len(self.ended) else going

    def keep(self, going: Tensor) -> None:
        self.numbers, self.ended = self.numbers[going], self.ended[going]

    def decoded(self) -> Decoded:
        if not self.witness.isfinite():
            raise InputError(
                "generation",
                "the model's logits are not finite numbers",
                "its weights are broken, or too large for their dtype: try float32 or bfloat16",
            )
        cut = [until_stop(row, set(self.stops)) for row in self.written.T.tolist()]
        ids = [row for row, _ in cut]
        scored = None
        if self.scored is not None:
            both = zip(self.scored.T.tolist(), ids, strict=True)
            scored = [row[: len(written)] for row, written in both]
        return Decoded(ids, [ended for _, ended in cut], scored)


def stops_of(config: GenerationConfig) -> list[int]:
    """The stop tokens that `config` names, if any."""
    ids = config.eos_token_id
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)


def until_stop(row: Sequence[int], stops: set[int]) -> tuple[list[int], bool]:
    """The row up to its first stop token, that one included, and whether there is one."""
    for index, token in enumerate(row):
        if token in stops:
            return list(row[: index + 1]), True
    return list(row), False
