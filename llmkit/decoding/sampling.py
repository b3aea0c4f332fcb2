"""The next token from the logits: the likeliest one, or one drawn with a number from [0, 1).

Drawing inverts the distribution function: the first token at which the summed probability exceeds
the number. It needs one random number for a token instead of one for each word of the vocabulary,
which on a CPU costs more than a small model's layers; and a row's numbers are its own, whatever
rows stand beside it. Source: inverse transform sampling, L. Devroye, Non-Uniform Random Variate
Generation (1986), chapter II.2, http://luc.devroye.org/rnbookindex.html
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

Filter = Callable[[None, Tensor], Tensor]
BELOW_ONE = 1 - 2**-23  # times any float32 sum, the product is less than the sum


class Sampler:
    """What a GenerationConfig says of one step, by transformers' own classes and in its order.

    Attributes:
        temperature: that the logits are divided by; 1 for greedy decoding, which asks for none.
        filters: what `top_k`, `top_p` and `min_p` leave of the distribution.
    """

    def __init__(self, config: GenerationConfig) -> None:
        self.temperature, self.filters = temperature(config), filters(config)

    def scores(self, logits: Tensor) -> Tensor:
        """(B, V) logits at the temperature, before any filter: what log-probabilities are of."""
        return logits if self.temperature == 1.0 else logits / self.temperature

    def take(self, scores: Tensor, uniforms: Tensor | None) -> tuple[Tensor, Tensor]:
        """Tokens (B,), and for each row a number that is finite if the scores are.

        By `uniforms` (B,), numbers from [0, 1); without them the first of the likeliest. Where the
        scores are not finite, the token is an id like any other.
        """
        if uniforms is None:
            best, tokens = scores.max(-1)
            return tokens, best
        for narrow in self.filters:
            scores = narrow(None, scores)
        summed = (scores - scores.amax(-1, keepdim=True)).exp_().cumsum(-1)
        whole = summed[:, -1:]
        points = uniforms.clamp(max=BELOW_ONE)[:, None] * whole
        tokens = torch.searchsorted(summed, points, right=True)[:, 0]
        return tokens.clamp_(max=scores.shape[1] - 1), whole[:, 0]


def temperature(config: GenerationConfig) -> float:
    """Raises ValueError, as transformers does, where it is not a positive number."""
    if not config.do_sample or config.temperature is None:
        return 1.0
    return float(TemperatureLogitsWarper(config.temperature).temperature)


def filters(config: GenerationConfig) -> list[Filter]:
    found: list[Filter] = []
    if config.top_k:
        found.append(TopKLogitsWarper(config.top_k))
    if config.top_p is not None and config.top_p < 1.0:
        found.append(TopPLogitsWarper(config.top_p))
    if config.min_p is not None:
        found.append(MinPLogitsWarper(config.min_p))
    return found


def log_probability(scores: Tensor, tokens: Tensor) -> Tensor:
    """(B,) of each row's token, by the softmax of all its scores."""
    return scores.gather(1, tokens[:, None])[:, 0] - scores.logsumexp(-1)
