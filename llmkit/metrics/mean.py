"""`Mean`: the mean of real scores, with Student's interval."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from llmkit.metrics.intervals import mean


class Mean(evaluate.Metric):
    """`Mean().compute(scores=[0.5, 0.75])` -> `{value, low, high, n}`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Mean, with Student's 95 % interval.",
            citation="Student (1908), Biometrika 6, 1-25",
            features=datasets.Features({"scores": datasets.Value("float64")}),
        )

    def _compute(self, scores: list[float], **kwargs: Any) -> dict[str, float | int]:
        return mean(scores).as_dict()
