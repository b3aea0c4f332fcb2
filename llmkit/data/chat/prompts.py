"""Where the prompts of a policy come from: a Hub data set, a file, or the embedded `tinyworld`.

A row may be a prompt alone, a conversation or a preference pair; the last answer is left away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from llmkit.data.chat.chat_rows import ROLES, Messages, checked, conversations_of, said
from llmkit.data.chat.preference_rows import asked_in, conversation, is_open_transcript, transcript
from llmkit.data.chat.row_sources import HubRows, PathRows, RowSource, gathered
from llmkit.data.sources.readers import BadRows
from llmkit.data.tinyworld.prompts import PromptMix

__all__ = ["PROMPTS", "Prompt", "PromptSource", "gathered", "prompts_of"]

PROMPTS = {
    "hub": "llmkit.data.chat.prompts:HubPrompts",
    "path": "llmkit.data.chat.prompts:PathPrompts",
    "tinyworld": "llmkit.data.chat.prompts:TinyworldPrompts",
}


@dataclass(frozen=True, slots=True)
class Prompt:
    """Something to be answered.

    Attributes:
        messages: up to and including the user's last.
        answer: what a right answer must say, where that is known.
        details: what a reward may need to know of the question.
    """

    messages: Messages
    answer: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def prompts_of(row: Mapping[str, Any], language: str = "en") -> Iterator[Prompt]:
    """The prompts in a row: one, or for an OpenAssistant tree one for each of its best threads.

    A column `answer` beside a prompt is the right answer.

    Raises:
        ValueError: the row is in no known form, or nothing is asked in it.
    """
    if isinstance(row.get("prompt"), Mapping):
        for thread in conversations_of(row, language):
            yield Prompt(checked(thread[:-1], answered=False))
        return
    answer = row.get("answer", "")
    if not isinstance(answer, str):
        raise ValueError(f"'answer' holds {type(answer).__name__}, not text")
    yield Prompt(checked(unanswered(_messages(row)), answered=False), answer)


def _messages(row: Mapping[str, Any]) -> list[Any]:
    """The conversation in a row, answered or not."""
    if "chosen" in row:
        return conversation(row, "chosen")
    asked = row["messages"] if "messages" in row else asked_in(row)
    if asked is None:
        there = ", ".join(map(str, row)) or "none"
        known = "messages; conversations; prompt; question; instruction; chosen"
        raise ValueError(f"no prompt in it (there are: {there}; known: {known})")
    if isinstance(asked, str) and is_open_transcript(asked):
        return transcript(asked)
    return said("user", asked)


def unanswered(messages: list[Any]) -> list[Any]:
    """The messages without the assistant's, where it has the last word."""
    last = messages[-1] if messages else None
    answered = isinstance(last, Mapping) and ROLES.get(str(last.get("role"))) == "assistant"
    return messages[:-1] if answered else messages


@dataclass(frozen=True, kw_only=True)
class PromptSource(RowSource[Prompt]):
    """Base of the sources."""

    noun: ClassVar[str] = "prompt"

    prompts = RowSource.rows


@dataclass(frozen=True, kw_only=True)
class WrittenPrompts(PromptSource):
    """What rows written elsewhere become. `language` chooses among OpenAssistant's trees."""

    language: str = "en"

    def _made_of(self, row: Mapping[str, Any]) -> Iterator[Prompt]:
        return prompts_of(row, self.language)


@dataclass(frozen=True, kw_only=True)
class PathPrompts(PathRows[Prompt], WrittenPrompts):
    """`{path: FILE-OR-FOLDER, split: "[:90%]", language: en}`."""


@dataclass(frozen=True, kw_only=True)
class HubPrompts(HubRows[Prompt], WrittenPrompts):
    """`{hub: OWNER/NAME, name: CONFIG, revision: COMMIT, split: "train[:5000]", language: en}`."""


@dataclass(frozen=True, kw_only=True)
class TinyworldPrompts(PromptSource):
    """`{tinyworld: prompts, num_prompts: 20000}`, of the recipe's `world`, with the right answers.

    `split: heldout` has wordings, names and sums that training never sees; `mix` says what is
    asked. The details hold `question` (facts, unknown, sums), and for the first two `kind`,
    `attribute` and `name`.
    """

    tinyworld: Literal["prompts"]
    num_prompts: int = 20_000
    split: Literal["train", "heldout"] = "train"
    mix: PromptMix | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_prompts < 1:
            raise ValueError(f"num_prompts: {self.num_prompts} is not positive")

    @property
    def label(self) -> str:
        return f"tinyworld:{self.split}"

    def _rows(
        self,
        world: Mapping[str, Any],
        inputs: Mapping[str, Path | str],
        seed: int,
        bad_rows: BadRows,
    ) -> Iterator[Prompt]:
        from llmkit.data.tinyworld.prompts import prompts
        from llmkit.data.tinyworld.world import World

        for row in prompts(World(**world), self.num_prompts, seed, self.split, self.mix):
            yield Prompt(row["prompt"], row["answer"], row["details"])
