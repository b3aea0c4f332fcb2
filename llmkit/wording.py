"""Whether a value of a recipe fits an annotation, and how to say so when it does not."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args, get_origin

from llmkit.fields import Kind


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean X?`, or nothing where no known word is near."""
    match = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {match[0]}?" if match else ""


def fits(hint: Any, value: object) -> bool:
    """Whether a value is of a scalar annotation; an int is a float, a bool is neither."""
    if hint is Any or hint is object:
        return True
    if get_origin(hint) is Literal:
        return any(
            value is word or (value == word and type(value) is type(word))
            for word in get_args(hint)
        )
    plain = get_origin(hint) or hint
    if plain in (tuple, list):
        return isinstance(value, list)
    if isinstance(plain, type) and issubclass(plain, Mapping):
        return isinstance(value, Mapping)
    if isinstance(value, bool):
        return plain is bool
    if plain is float:
        return isinstance(value, int | float)
    return plain is types.NoneType if value is None else isinstance(value, plain)


def shape_fits(hint: Any, value: object) -> bool:
    """Whether a value may be meant for this alternative: a mapping for a dataclass, and so on."""
    if get_origin(hint) is Annotated:
        return shape_fits(get_args(hint)[0], value)
    if dataclasses.is_dataclass(hint):
        return isinstance(value, Mapping)
    return fits(hint, value)


def accepts_none(hint: Any) -> bool:
    return types.NoneType in get_args(hint) or hint is types.NoneType


def describe(value: object) -> str:
    """A value as it stands in the recipe, with its type where that is the point."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(str, value)) or 'nothing in it'}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"the text {value!r}" if isinstance(value, str) else f"the number {value}"


WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
WORDS |= {types.NoneType: "nothing", list: "a list", dict: "a mapping"}


def name_of(hint: Any) -> str:
    """An annotation in the words of `describe`."""
    if get_origin(hint) is Annotated:
        return name_of(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(str(word) for word in get_args(hint))
    if get_origin(hint) in (list, tuple):
        return "a list"
    plain = get_origin(hint) or hint
    return WORDS.get(plain, f"a mapping ({getattr(plain, '__name__', plain)})")


def wording(kind: Kind) -> str:
    """A Hugging Face annotation in the same words."""
    if kind.words:
        words = "one of " + ", ".join(str(word) for word in kind.words)
        return words + ("" if not kind.types else f" ({kind.text})")
    wide = float in kind.types
    kinds = [
        t for t in dict.fromkeys(kind.types) if not (t is int and wide) and t is not types.NoneType
    ]
    return " or ".join(WORDS[t] for t in kinds) or kind.text
