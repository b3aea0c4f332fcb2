"""Changes to a recipe's mapping: dotted overrides, profiles, and `${vars}`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from llmkit.yaml12 import Path

_PART = re.compile(r"([^.\[\]]+)((?:\[\d+\])*)")
_VAR = re.compile(r"\$\{([^}]*)\}")


class OverrideError(ValueError):
    """A dotted path leads nowhere; the message says why."""


def split(dotted: str) -> Path:
    """`curate.sources[0].limit` -> `("curate", "sources", 0, "limit")`."""
    path: list[str | int] = []
    for part in dotted.split("."):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise OverrideError(f"{dotted!r} is not a dotted path such as sft.args.learning_rate")
        path.append(match[1])
        path += [int(index) for index in re.findall(r"\d+", match[2])]
    return tuple(path)


def assign(mapping: dict[str, Any], path: Path, value: Any) -> None:
    """Set `value` at `path`, making the mappings on the way; indices must be there already."""
    here: Any = mapping
    for depth, key in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(key, int):
            if not isinstance(here, list) or key >= len(here):
                length = f"a list of {len(here)}" if isinstance(here, list) else "no list"
                raise OverrideError(f"there is no [{key}] here: it is {length}")
        elif not isinstance(here, dict):
            raise OverrideError(f"{path[depth - 1]} holds {here!r}, so it cannot hold {key}")
        if last:
            here[key] = value
        else:
            inside = here[key] if isinstance(key, int) else here.get(key)
            if inside is None:
                following = path[depth + 1]
                if isinstance(following, int):
                    raise OverrideError(f"there is no [{following}] here: it is not set")
                inside = here[key] = {}
            here = inside


def substitute(value: Any, variables: Mapping[str, Any], path: Path = ()) -> Any:
    """`value` with every `${name}` replaced; a text that is only `${name}` takes its type too."""
    if isinstance(value, dict):
        return {key: substitute(item, variables, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, variables, (*path, i)) for i, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    whole = _VAR.fullmatch(value)
    if whole:
        return variables.get(whole[1], value)
    return _VAR.sub(lambda match: str(variables.get(match[1], match[0])), value)


def unknown_variables(
    value: Any, variables: Collection[str], path: Path = ()
) -> Iterator[tuple[Path, str]]:
    """Where a `${name}` stands that `vars:` does not have."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    elif isinstance(value, str):
        yield from ((path, name) for name in _VAR.findall(value) if name not in variables)
    for key, item in items:
        yield from unknown_variables(item, variables, (*path, key))
