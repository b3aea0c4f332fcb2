"""What tasks over held-out conversations share: where they come from, and how many may be bad."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from llmkit.schema import Keyed
from llmkit.tasks.task import Measured

if TYPE_CHECKING:
    from llmkit.data.chat.chat_rows import Messages


@dataclass(frozen=True, kw_only=True)
class HeldOut(Measured):
    """Base of the tasks that read conversations.

    Attributes:
        dataset: sources of conversations that no training saw, mixed by their weights.
        max_bad_rows: rows without a usable conversation that are left out before it is an error.
    """

    dataset: Annotated[list[Any], Keyed("llmkit.data.chat.conversations:HELD_OUT")]
    max_bad_rows: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_bad_rows < 0:
            raise ValueError(f"max_bad_rows: {self.max_bad_rows} is negative")

    def files(self) -> Iterator[Path]:
        for source in self.dataset:
            yield from source.files()

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        for source in self.dataset:
            yield from source.hub_data()

    def chats(self, world: Mapping[str, Any], seed: int) -> list[Messages]:
        """All conversations of `dataset`. Raises InputError as their sources do."""
        from llmkit.data.chat.conversations import gathered
        from llmkit.data.sources.readers import BadRows

        return gathered(self.dataset, world, {}, seed, BadRows(self.max_bad_rows))
