"""`BitsPerByte` and `NatsPerToken`: how well a model foresees texts, as a ratio of sums.

Bits per byte do not depend on the tokenizer (The Pile, https://arxiv.org/abs/2101.00027, 3.1).
Texts are the clusters of the interval: tokens within one are not independent.
"""

from __future__ import annotations

import math
from typing import Any

import datasets
import evaluate

from llmkit.metrics.intervals import ratio


class BitsPerByte(evaluate.Metric):
    """`compute(nats=[...], num_bytes=[...])`, one entry a text, -> `{value, low, high, n}`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Negative log-likelihood in bits a UTF-8 byte, over all texts.",
            citation="https://arxiv.org/abs/2101.00027",
            features=datasets.Features(
                {"nats": datasets.Value("float64"), "num_bytes": datasets.Value("int64")}
            ),
        )

    def _compute(
        self, nats: list[float], num_bytes: list[int], **kwargs: Any
    ) -> dict[str, float | int]:
        return ratio([value / math.log(2) for value in nats], num_bytes).as_dict()


class NatsPerToken(evaluate.Metric):
    """`compute(nats=[...], num_tokens=[...])`, one entry a text, -> `{value, low, high, n}`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Cross-entropy: negative log-likelihood in nats a token, over all texts.",
            citation="",
            features=datasets.Features(
                {"nats": datasets.Value("float64"), "num_tokens": datasets.Value("int64")}
            ),
        )

    def _compute(
        self, nats: list[float], num_tokens: list[int], **kwargs: Any
    ) -> dict[str, float | int]:
        return ratio(nats, num_tokens).as_dict()
