"""How much is taken of a stream: `limit: 1000` documents, or `{tokens: 1_000_000}`.

Tokens before there is a tokenizer are an estimate: the row's own `token_count` (FineWeb's column,
counted with GPT-2's tokenizer), or else UTF-8 bytes / 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from llmkit.data.documents import Document
from llmkit.errors import InputError

T = TypeVar("T")
BYTES_PER_TOKEN = 4


@dataclass(frozen=True, kw_only=True)
class Limit:
    """`{documents: N, tokens: N}`: the first documents, with the one that reaches either."""

    documents: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        if self.documents is None and self.tokens is None:
            raise ValueError("limit: name `documents` or `tokens`")
        for name in ("documents", "tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"limit: {name}: {value} is not positive")


def budget(limit: int | Limit | None) -> Limit | None:
    """The limit as an object; a plain number is of documents. Raises ValueError as `Limit` does."""
    if isinstance(limit, int):
        if limit < 1:
            raise ValueError(f"limit: {limit} is not positive")
        return Limit(documents=limit)
    return limit


def first(
    stream: Iterator[T], limit: int | Limit | None, tokens: Callable[[T], int]
) -> Iterator[T]:
    """The beginning of `stream` that the limit allows.

    Nothing is drawn from `stream` beyond the last item given. `tokens` is asked only where the
    limit is of tokens; `tokens_of` answers for documents, and whoever streams something else (the
    outcome of a document, say) brings its own.
    """
    bound = budget(limit)
    if bound is None:
        yield from stream
        return
    given = spent = 0
    for item in stream:
        yield item
        given += 1
        if bound.tokens is not None:
            spent += tokens(item)
            if spent >= bound.tokens:
                return
        if given == bound.documents:
            return


def tokens_of(document: Document) -> int:
    """A document's estimated GPT-2 tokens.

    Raises:
        InputError: it is a page: its text, and so its tokens, are known only after extraction.
    """
    if document.metadata.get("media_type") == "text/html":
        raise InputError(
            document.id,
            "the tokens of a page are known only when its text is extracted",
            "limit the source's documents instead",
        )
    known = document.metadata.get("token_count")
    return known if known is not None else -(-len(document.text.encode()) // BYTES_PER_TOKEN)
