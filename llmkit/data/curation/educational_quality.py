"""Keeps documents that a classifier on the Hub finds good, as FineWeb-Edu was made.

FineWeb-Edu keeps what its regression model scores 3 or more of 5, rounded
(https://arxiv.org/abs/2406.17557, section 4; reading of the score:
https://huggingface.co/HuggingFaceFW/fineweb-edu-classifier). Any sequence classifier serves: of a
model with one output the output is the score, of one with several the probability of `label`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from llmkit.data.curation.filters import Dropped, Step
from llmkit.data.documents import Document
from llmkit.errors import InputError

LOWEST, HIGHEST = 0, 5  # of FineWeb-Edu's scale, to which scores are cut


@dataclass(frozen=True, kw_only=True)
class EducationalQuality(Step):
    """Drops documents that score below `threshold` and writes `score` (and `int_score`).

    A score of a model with one output is rounded to a whole number first, as in FineWeb-Edu.
    """

    name: ClassVar[str] = "educational_quality"

    model: str = "HuggingFaceFW/fineweb-edu-classifier"  # a folder, or a Hub id
    revision: str | None = None
    label: str | None = None  # whose probability counts; needed by models with several
    threshold: float = 3
    max_length: int = 512  # tokens that are looked at

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise ValueError(f"max_length: {self.max_length} is not positive")

    def files(self) -> Iterator[Path]:
        folder = Path(self.model)
        if folder.is_dir():
            yield from sorted(file for file in folder.iterdir() if file.is_file())

    def libraries(self) -> tuple[str, ...]:
        return ("torch", "transformers")

    def load(self) -> None:
        classifier_of(self)

    def apply(self, document: Document) -> Document | Dropped:
        score = classifier_of(self).score(document.text)
        named: dict[str, Any] = {"score": score}
        if self.label is None:
            named["int_score"] = round(max(LOWEST, min(score, HIGHEST)))
        if named.get("int_score", score) < self.threshold:
            return Dropped("educational_quality", score)
        return Document(document.text, document.id, document.metadata | named)


class Classifier:
    """A loaded model and its tokenizer.

    Raises:
        InputError: the model cannot be loaded, or has no such label.
    """

    def __init__(self, step: EducationalQuality) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.step = step
        try:
            load = {"revision": step.revision}
            self.tokenizer = AutoTokenizer.from_pretrained(step.model, **load)
            self.model = AutoModelForSequenceClassification.from_pretrained(step.model, **load)
        except (OSError, ValueError) as error:
            what = str(error).split("\n")[0]
            remedy = "name a sequence classifier by path or id"
            raise InputError(step.model, what, remedy) from error
        self.model.eval()
        labels = self.model.config.label2id
        if step.label is None and self.model.config.num_labels > 1:
            remedy = f"set `label` to one of {', '.join(map(str, labels))}"
            raise InputError(step.model, "has several labels", remedy)
        if step.label is not None and step.label not in labels:
            what = f"has no label {step.label!r}"
            raise InputError(step.model, what, f"there are {', '.join(map(str, labels))}")
        self.place = None if step.label is None else labels[step.label]

    def score(self, text: str) -> float:
        import torch

        inputs = self.tokenizer(
            text, truncation=True, max_length=self.step.max_length, return_tensors="pt"
        )
        with torch.inference_mode():
            logits = self.model(**inputs).logits[0].float()
        if self.place is None:
            return float(logits[0])
        return float(logits.softmax(0)[self.place])


@cache
def classifier_of(step: EducationalQuality) -> Classifier:
    """Loaded once a process."""
    return Classifier(step)
