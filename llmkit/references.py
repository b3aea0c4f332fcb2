"""What stages say of one another: which earlier stage a name means, and what is known of it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmkit.build import Reference
from llmkit.errors import Problem
from llmkit.stage import Facts, Stage
from llmkit.wording import nearest

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FROM_HUB = ("model", "tokenizer", "reward_model")


def resolve(
    reference: Reference, stage: str, earlier: Mapping[str, type[Stage]], later: set[str]
) -> tuple[str | Path | None, Problem | None]:
    """The stage, folder or Hub id that a reference means, or the problem with it.

    Args:
        stage: the name of the stage that refers.
        earlier: the stages above it in the recipe, by name.
        later: the names of the stages below it.
    """
    kind, value, path = reference.mark.kind, reference.value, reference.path
    makers = [name for name, maker in earlier.items() if kind in maker.makes]
    if value is None:
        if len(makers) == 1:
            return makers[0], None
        if not makers and reference.mark.optional:
            return None, None
        found = (
            f"{' and '.join(makers)} both make {kind}" if makers else f"no stage above makes {kind}"
        )
        return None, Problem(path, found, f"say which with `{path[-1]}:`")
    if value in earlier:
        if value in makers:
            return value, None
        made = " and ".join(earlier[value].makes) or "nothing that a stage reads"
        return None, Problem(path, f"{value} makes {made}, not {kind}", _offer(makers))
    if value in later or value == stage:
        what = "names its own stage" if value == stage else f"{value} comes later"
        return None, Problem(path, what, "a stage reads only what stands above it")
    return _outside(reference, value, makers)


def _outside(
    reference: Reference, value: str, makers: list[str]
) -> tuple[str | Path | None, Problem | None]:
    """A local folder or a Hub id."""
    folder = Path(value).expanduser()
    if folder.is_dir():
        return folder, None
    kind, path = reference.mark.kind, reference.path
    if kind in FROM_HUB and HUB_ID.fullmatch(value) and not value.startswith("."):
        return value, None
    remedy = nearest(value, makers) or _offer(makers)
    if kind in FROM_HUB:
        remedy += "; " * bool(remedy) + "a Hub id has the form owner/name"
    return None, Problem(path, f"no stage above and no folder is called {value!r}", remedy)


def _offer(makers: list[str]) -> str:
    return f"there is {', '.join(makers)}" if makers else ""


def fill(stage: Stage, reference: Reference, target: str) -> Stage:
    """The stage with a reference that was left out now written in its field."""
    change: dict[str, Any] = {str(reference.path[-1]): target}
    return dataclasses.replace(stage, **change)


def facts_of_folder(folder: Path) -> Facts:
    """What the small JSON files of a model, tokenizer or shards folder say of it."""
    config = _json(folder / "config.json")
    tokenizer = _json(folder / "tokenizer_config.json")
    index = _json(folder / "index.json")
    lengths = ("n_positions", "max_position_embeddings", "context_length")
    return Facts(
        vocab_size=config.get("vocab_size") or index.get("vocab_size"),
        context_length=next((f[k] for f in (config, index) for k in lengths if f.get(k)), None),
        eos_token=_token(tokenizer.get("eos_token")),
        pad_token=_token(tokenizer.get("pad_token")),
        chat_template=_has_template(folder, tokenizer) if tokenizer else None,
        validation=_has_validation(index),
    )


def _has_validation(index: dict[str, Any]) -> bool | None:
    """Whether shards hold validation documents; None where the index does not say."""
    splits = index.get("splits")
    held_out = splits.get("validation") if isinstance(splits, dict) else None
    return bool(held_out.get("documents")) if isinstance(held_out, dict) else None


def _has_template(folder: Path, tokenizer: dict[str, Any]) -> bool:
    return bool(tokenizer.get("chat_template")) or (folder / "chat_template.jinja").exists()


def _token(entry: Any) -> str | None:
    return entry.get("content") if isinstance(entry, dict) else entry


def _json(file: Path) -> dict[str, Any]:
    """The file's mapping; empty where there is none (the stage that loads it says more)."""
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
