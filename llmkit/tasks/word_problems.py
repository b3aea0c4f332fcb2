"""Sums told as stories, with one number for an answer: GSM8K, ASDiv, MAWPS and their like.

Joan found 70 seashells and gave Sam some of them. She has 27 left. How many did she give? -> 43

Sources: GSM8K https://arxiv.org/abs/2110.14168, ASDiv https://arxiv.org/abs/2106.15772,
MAWPS https://aclanthology.org/N16-1136
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from llmkit.data.chat.row_sources import HubRows, PathRows, RowSource
from llmkit.schema import Keyed
from llmkit.tasks.held_out import HeldOut
from llmkit.tasks.numbers import last_number
from llmkit.tasks.task import Completion, Example, Task

if TYPE_CHECKING:
    from llmkit.data.chat.chat_rows import Messages

PROBLEMS = {
    "hub": "llmkit.tasks.word_problems:HubProblems",
    "path": "llmkit.tasks.word_problems:PathProblems",
}


@dataclass(frozen=True, kw_only=True)
class WordProblems(HeldOut, Task):
    """The problems of `dataset`: the first `limit` of a seeded order, all when left out.

    What is measured and what is trained on are two different parts of the data, which the recipe
    names (`split: "[:90%]"` and `"[90%:]"`).
    """

    max_new_tokens: ClassVar[int] = 128
    # A number at all is worth a little, or a model that gives none finds nothing to learn from.
    rewards: ClassVar[Mapping[str, float]] = {"accuracy": 1.0, "number": 0.1}

    dataset: Annotated[list[Any], Keyed("llmkit.tasks.word_problems:PROBLEMS")]

    def examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        found = self.chats(world, seed)
        Random(f"{seed}:word_problems").shuffle(found)
        for chat in found[: self.limit]:
            yield Example(chat[:-1], chat[-1]["content"])

    def training_examples(self, world: Mapping[str, Any], seed: int) -> Iterator[Example]:
        yield from self.examples(world, seed)

    def score(self, example: Example, completion: Completion) -> dict[str, float]:
        """`accuracy`: the last number is the answer; `number`: there is one; `ended`."""
        said = last_number(completion.text)
        return {
            "accuracy": float(said is not None and said == last_number(example.answer)),
            "number": float(said is not None),
            "ended": float(completion.ended),
        }


@dataclass(frozen=True, kw_only=True)
class Problems(RowSource["Messages"]):
    """Base of the sources: a problem is a question with its number for an answer."""

    noun: ClassVar[str] = "word problem"

    def _made_of(self, row: Mapping[str, Any]) -> Iterator[Messages]:
        asked, answer = problem_of(row)
        yield [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


@dataclass(frozen=True, kw_only=True)
class PathProblems(PathRows["Messages"], Problems):
    """`{path: FILE-OR-FOLDER, split: "[:90%]"}`; a file may also be called .json (a row a line)."""

    def files(self) -> Iterator[Path]:
        path = Path(self.path).expanduser()
        if path.suffix == ".json" and path.is_file():
            yield path
        else:
            yield from super().files()


@dataclass(frozen=True, kw_only=True)
class HubProblems(HubRows["Messages"], Problems):
    """`{hub: openai/gsm8k, name: main, split: "train[:90%]"}`."""


def problem_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """The question of a row and the number that answers it.

    Raises:
        ValueError: the row is in no known form, or its answer is no number.
    """
    for asked, answered in (("question", "answer"), ("input", "target"), ("problem", "solution")):
        if asked in row and answered in row:
            parts = (row.get("body"), row[asked])  # ASDiv tells the story in a column of its own
            text = " ".join(str(part).strip() for part in parts if part)
            if not text:
                raise ValueError(f"{asked!r} is empty")
            return text, number_of(row[answered])
    there = ", ".join(map(str, row)) or "none"
    raise ValueError(f"columns in no known form (there are: {there}; known: question and answer)")


def number_of(answer: Any) -> str:
    """`43.0` -> "43", `9 (apples)` -> "9", GSM8K's `... #### 1,200` -> "1200".

    Raises:
        ValueError: the answer is no number: a name, a time, a ratio.
    """
    text = str(answer).rpartition("####")[2].partition("(")[0].strip()
    value = last_number(text)
    if value is None or text.replace(",", "").lstrip("$") != str(value):
        raise ValueError(f"the answer {text!r} is no number")
    whole = value.to_integral_value()
    return str(int(whole)) if whole == value else str(value.normalize())
