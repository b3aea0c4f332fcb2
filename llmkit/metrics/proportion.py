"""`Proportion`: the share of yes among yes and no, with Wilson's interval."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from llmkit.metrics.intervals import wilson


class Proportion(evaluate.Metric):
    """`Proportion().compute(scores=[1, 0, 1])` -> `{value, low, high, n}`; each score is 0 or 1."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of ones, with Wilson's 95 % interval.",
            citation="E. B. Wilson (1927), JASA 22, 209-212",
            features=datasets.Features({"scores": datasets.Value("float64")}),
        )

    def _compute(self, scores: list[float], **kwargs: Any) -> dict[str, float | int]:
        if any(score not in (0, 1) for score in scores):
            raise ValueError("a proportion takes scores of 0 and 1; use Mean for others")
        return wilson(sum(scores), len(scores)).as_dict()
