"""What a Hugging Face class or torch refuses becomes the user's error, with stage and keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import StrictDataclassError

from llmkit.errors import UserError

# What constructors raise on values that they cannot take. The disk and the network are no such.
REFUSALS = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    StrictDataclassError,
    TypeError,
    ValueError,
)


@contextmanager
def refused(where: str, by: str, remedy: str) -> Iterator[None]:
    """While something is built out of the keys at `where`: what `by` raises is a UserError."""
    try:
        yield
    except REFUSALS as error:
        raise UserError(where, f"{by} refuses it: {said(error)}", remedy) from error


def said(error: BaseException) -> str:
    """The error's words in one line, with its kind where they are but a key."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__} {words}" if isinstance(error, LookupError) else words
