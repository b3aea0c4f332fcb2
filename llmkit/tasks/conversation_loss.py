"""Held-out conversations: how well a model foresees the assistant's words in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit.tasks.held_out import HeldOut
from llmkit.tasks.task import LikelihoodTask, Passage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class ConversationLoss(HeldOut, LikelihoodTask):
    """The assistant's tokens of `dataset`, the end of each turn among them, given all before."""

    def passages(
        self,
        tokenizer: PreTrainedTokenizerFast,
        world: Mapping[str, Any],
        seed: int,
        shards: Path | None,
    ) -> Iterator[Passage]:
        from llmkit.model import encode_conversations

        chats = self.chats(world, seed)[: self.limit]
        for chat, (ids, mask) in zip(chats, encode_conversations(tokenizer, chats), strict=True):
            said = (m["content"] for m in chat if m["role"] == "assistant")
            yield Passage(ids, mask, sum(len(text.encode()) for text in said))
