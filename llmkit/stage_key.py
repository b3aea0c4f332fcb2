"""When is a stage's work still good? Its key: SHA-256 over everything that can change the bytes.

    key = sha256(kind, resolved stage, seed, world, digests of the parents' artefacts,
                 digests of local inputs, commits of Hub inputs, versions of llmkit and libraries)

Of the resolved stage three things are left out: `gates`, which decides only whether to go on, the
`revision` of a Hub input, which says no more than its commit does, and the stage's own `unkeyed`
fields, which change none of its artefacts. The parts are kept beside the
key in `stage.json`, so that a key that differs can say why.
"""

from __future__ import annotations

import hashlib
import json
import math
import numbers
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from llmkit import __version__, run_dir
from llmkit.errors import InputError
from llmkit.recipe import Recipe

ABSENT = "not set"
MAX_REASONS = 3  # told in one line; the rest is counted
NOT_IN_KEY = ("gates", "revision")  # fields of a stage


def plain(value: Any, inside: bool = False) -> Any:
    """A stage, or figures it returned, as JSON-able data: equal exactly when the values are.

    A component inside a stage becomes `{ClassName: {field: value}}`, because two kinds of it may
    have the same fields. Numbers that JSON lacks become "nan" and "inf".
    """
    if is_dataclass(value) and not isinstance(value, type):
        named = {item.name: plain(getattr(value, item.name), inside=True) for item in fields(value)}
        return {type(value).__name__: named} if inside else named
    if isinstance(value, Mapping):
        return {str(key): plain(item, inside=True) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, inside=True) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item, inside=True) for item in value), key=json.dumps)
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written into stage.json: {value!r}")


def key_of(parts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def versions(libraries: Sequence[str]) -> dict[str, str]:
    """Of Python (minor), llmkit, and the installed `libraries`; imports none of them."""
    found = {"python": ".".join(platform.python_version_tuple()[:2]), "llmkit": __version__}
    for library in libraries:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = "not installed"  # the stage itself says which extra it needs
    return found


@dataclass
class InputDigests:
    """SHA-256 of local input files, counted once: a file of known size and time is not reread.

    `known` maps a path to {sha256, bytes, mtime_ns}; what earlier `stage.json`s say goes in first.
    """

    known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def of(self, path: Path) -> str:
        """Digest of a file, or of a folder's names and contents. Raises InputError."""
        if path.is_dir():
            files = sorted(item for item in path.rglob("*") if item.is_file())
            lines = [f"{self._of_file(item)}  {item.relative_to(path)}\n" for item in files]
            if not lines:
                raise InputError(str(path), "is an empty folder", "put the input files there")
            return hashlib.sha256("".join(lines).encode()).hexdigest()
        if not path.is_file():
            raise InputError(str(path), "there is no such file", "check the path in the recipe")
        return self._of_file(path)

    def _of_file(self, path: Path) -> str:
        status, known = path.stat(), self.known.get(str(path))
        now = {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
        if known is None or any(known[name] != now[name] for name in now):
            known = {"sha256": run_dir.sha256_of(path), **now}
            self.known[str(path)] = known
        return str(known["sha256"])


def local_inputs(recipe: Recipe, name: str) -> Iterator[Path]:
    """Files and folders that the stage reads and no stage made."""
    yield from recipe.stages[name].files()
    for target in recipe.references[name].values():
        if isinstance(target, Path):
            yield target


def parents_of(recipe: Recipe, name: str) -> list[str]:
    """The earlier stages that the stage reads, each once, in the recipe's order."""
    targets = {str(target) for target in recipe.references[name].values()}
    return [stage for stage in recipe.stages if stage in targets]


def hub_commits(recipe: Recipe, name: str) -> dict[str, list[str]]:
    """Commit of each Hub model that the stage refers to, and of each Hub data set it reads.

    A data set that is read at two revisions has both, in the order in which they are read.
    """
    stage = recipe.stages[name]
    revision = plain(stage).get("revision")
    targets = recipe.references[name].values()
    models = {item for item in targets if isinstance(item, str) and item not in recipe.stages}
    commits = {model: [hub_commit("model", model, revision)] for model in sorted(models)}
    for data_set, wanted in stage.hub_data():
        commits.setdefault(data_set, []).append(hub_commit("dataset", data_set, wanted))
    return commits


def hub_commit(repo_type: str, repo_id: str, revision: str | None) -> str:
    """The commit that `revision` means on the Hub now; in the local cache when offline.

    Fetches a card or a config alone. Raises InputError where neither the Hub nor the cache has it.
    """
    from huggingface_hub import snapshot_download

    small = ["config.json", "README.md"]
    try:
        folder = snapshot_download(
            repo_id, repo_type=repo_type, revision=revision, allow_patterns=small
        )
        return Path(folder).name
    except OSError as error:  # every error of huggingface_hub is one
        raise InputError(
            repo_id if revision is None else f"{repo_id}@{revision}",
            f"is no earlier stage and no local folder, and the Hub did not give it ({error})",
            "check the spelling and the network, or name a local folder",
        ) from error


def decisive(stage: Mapping[str, Any], unkeyed: Sequence[str] = ()) -> dict[str, Any]:
    """The keys of a plain stage without those that cannot change its bytes."""
    left_out = (*NOT_IN_KEY, *unkeyed)
    return {key: _unrevised(value) for key, value in stage.items() if key not in left_out}


def _unrevised(value: Any) -> Any:
    """A plain value without the `revision` of Hub sources inside it."""
    if isinstance(value, list):
        return [_unrevised(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    source = "hub" in value
    return {key: _unrevised(item) for key, item in value.items() if key != "revision" or not source}


def settings(recipe: Recipe, name: str) -> dict[str, Any]:
    """The parts of a key that the recipe alone decides."""
    return {
        "kind": recipe.kinds[name],
        "stage": decisive(plain(recipe.stages[name]), recipe.stages[name].unkeyed),
        "seed": recipe.seed,
        "world": plain(recipe.world),
    }


def parts_of(
    recipe: Recipe, name: str, parents: Mapping[str, str], digests: InputDigests
) -> dict[str, Any]:
    """All parts of the stage's key; `parents` are digests of the finished parents' artefacts."""
    return {
        **settings(recipe, name),
        "parents": dict(parents),
        "files": {str(path): digests.of(path) for path in local_inputs(recipe, name)},
        "hub": hub_commits(recipe, name),
        "versions": versions(recipe.stages[name].versioned()),
    }


def flattened(value: Any, path: str = "") -> dict[str, Any]:
    """`{"a": {"b": [1]}}` -> `{"a.b[0]": 1}`."""
    items: dict[str, Any] = {}
    if isinstance(value, Mapping):
        for key, item in value.items():
            items |= flattened(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            items |= flattened(item, f"{path}[{index}]")
    else:
        items[path] = value
    return items


def changes(old: Any, new: Any) -> list[str]:
    """`["vocab_size 2048 -> 4096"]`."""
    before, after = flattened(old), flattened(new)
    names = [*after, *(name for name in before if name not in after)]
    return [
        f"{name} {shown(before.get(name, ABSENT))} -> {shown(after.get(name, ABSENT))}".strip()
        for name in names
        if before.get(name, ABSENT) != after.get(name, ABSENT)
    ]


def shown(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."


def reasons(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Why two keys differ, in one line: what the recipe changed first, versions last."""
    found = changes(old.get("stage"), new.get("stage"))
    found += changes({"kind": old.get("kind")}, {"kind": new.get("kind")})
    found += changes({"seed": old.get("seed")}, {"seed": new.get("seed")})
    found += changes({"world": old.get("world")}, {"world": new.get("world")})
    found += [f"{name} was made again" for name in differing(old, new, "parents")]
    found += [f"{name} was changed" for name in differing(old, new, "files")]
    found += [f"{name} is another commit on the Hub" for name in differing(old, new, "hub")]
    moved = changes(old.get("versions"), new.get("versions"))
    if moved:
        found.append("versions: " + ", ".join(moved))
    found = found or ["its settings were changed"]  # an empty list became an empty mapping, say
    more = len(found) - MAX_REASONS
    return "; ".join(found[:MAX_REASONS]) + (f"; and {more} more" if more > 0 else "")


def differing(old: Mapping[str, Any], new: Mapping[str, Any], part: str) -> list[str]:
    before, after = old.get(part, {}), new.get(part, {})
    return [name for name in after if before.get(name) != after[name]]
