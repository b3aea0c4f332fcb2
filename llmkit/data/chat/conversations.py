"""Where conversations come from: a Hub data set, a file, the embedded `tinyworld`, another stage.

Every source gives conversations in TRL's form, `[{"role", "content"}, ...]`. Rows are recognised
by their columns (`llmkit.data.chat.chat_rows`), and a bad one is named with its file and line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from llmkit.data.chat.chat_rows import Messages, conversations_of, read_file
from llmkit.data.chat.row_sources import HubRows, PathRows, RowSource, gathered
from llmkit.data.sources.readers import BadRows
from llmkit.data.tinyworld.conversations import Mix
from llmkit.schema import Refers

__all__ = ["CONVERSATIONS", "HELD_OUT", "ConversationSource", "gathered"]

CONVERSATIONS = {
    "hub": "llmkit.data.chat.conversations:HubConversations",
    "path": "llmkit.data.chat.conversations:PathConversations",
    "tinyworld": "llmkit.data.chat.conversations:TinyworldConversations",
    "stage": "llmkit.data.chat.conversations:StageConversations",
}
HELD_OUT = {
    "hub": "llmkit.data.chat.conversations:HubConversations",
    "path": "llmkit.data.chat.conversations:PathConversations",
    "tinyworld": "llmkit.data.chat.conversations:TinyworldConversations",
}


@dataclass(frozen=True, kw_only=True)
class ConversationSource(RowSource[Messages]):
    """Base of the sources."""

    noun: ClassVar[str] = "conversation"


@dataclass(frozen=True, kw_only=True)
class WrittenConversations(ConversationSource):
    """What rows written elsewhere become. `language` chooses among OpenAssistant's trees."""

    language: str = "en"

    def _made_of(self, row: Mapping[str, Any]) -> Iterator[Messages]:
        return conversations_of(row, self.language)


@dataclass(frozen=True, kw_only=True)
class PathConversations(PathRows[Messages], WrittenConversations):
    """`{path: FILE-OR-FOLDER, split: "[:90%]", language: en}`."""


@dataclass(frozen=True, kw_only=True)
class HubConversations(HubRows[Messages], WrittenConversations):
    """`{hub: OWNER/NAME, name: CONFIG, revision: COMMIT, split: "train[:5000]", language: en}`."""


@dataclass(frozen=True, kw_only=True)
class StageConversations(ConversationSource):
    """`{stage: NAME}`: what an earlier stage of the recipe wrote, prompts with its completions."""

    stage: Annotated[str, Refers("conversations")]

    @property
    def label(self) -> str:
        return f"stage:{self.stage}"

    def _rows(
        self,
        world: Mapping[str, Any],
        inputs: Mapping[str, Path | str],
        seed: int,
        bad_rows: BadRows,
    ) -> Iterator[Messages]:
        for file in sorted(Path(inputs[self.stage]).glob("*.jsonl")):
            yield from read_file(file, bad_rows)


@dataclass(frozen=True, kw_only=True)
class TinyworldConversations(ConversationSource):
    """`{tinyworld: conversations, num_conversations: 20000}`, of the recipe's `world`.

    `split: heldout` has wordings, names and sums that training never sees; `mix` says what the
    turns are about.
    """

    tinyworld: Literal["conversations"]
    num_conversations: int = 20_000
    split: Literal["train", "heldout"] = "train"
    mix: Mix | None = None

    @property
    def label(self) -> str:
        return f"tinyworld:{self.split}"

    def _rows(
        self,
        world: Mapping[str, Any],
        inputs: Mapping[str, Path | str],
        seed: int,
        bad_rows: BadRows,
    ) -> Iterator[Messages]:
        from llmkit.data.tinyworld.conversations import conversations
        from llmkit.data.tinyworld.world import World

        num = self.num_conversations
        for row in conversations(World(**world), num, seed, self.split, self.mix):
            yield row["messages"]
