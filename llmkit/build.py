"""Builds a component from the mapping that a recipe gives it, and finds every fault at once.

`Builder.build` walks the fields of a frozen dataclass (see `llmkit.schema` for what its
annotations may say), refuses unknown keys with the nearest known one, checks types at every depth
and collects the references to other stages that it meets on the way.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Annotated, Any, Literal, get_args, get_origin

from llmkit.errors import Problem
from llmkit.fields import Kind, config_fields, fields_of, model_types
from llmkit.schema import Keyed, Named, Passes, Refers
from llmkit.wording import accepts_none, describe, fits, name_of, nearest, shape_fits, wording

Path = tuple[str | int, ...]
MISSING = dataclasses.MISSING

# Arguments of Hugging Face classes that the runner sets, and llmkit's way to the same end.
OWNED = {
    "output_dir": "llmkit writes to runs/<recipe>/<stage>; use --output-dir",
    "resume_from_checkpoint": "a stopped stage resumes by itself when it is run again",
    "push_to_hub": "add a `publish` stage",
    "seed": "set the recipe's top-level `seed`",
    "data_seed": "set the recipe's top-level `seed`",
    "fsdp": "choose it in the file given to `accelerate launch --config_file`",
    "fsdp_config": "choose it in the file given to `accelerate launch --config_file`",
    "deepspeed": "choose it in the file given to `accelerate launch --config_file`",
    "ddp_backend": "NCCL joins the processes on GPUs, gloo those on CPUs",
    "ddp_timeout": "the processes are joined once, before the first stage; see NCCL's own settings",
    "auto_find_batch_size": "set per_device_train_batch_size, so that a run can be repeated",
    "model_init_kwargs": "llmkit loads the model itself; `model:` and `revision:` say which",
}

# Keys of Hugging Face classes until transformers 5 -> the key that took their place, and how.
ROPE = "it is `rope_parameters: {rope_type: default, rope_theta: 500000.0}` since transformers 5"
FORMER = {
    "rope_theta": ("rope_parameters", ROPE),
    "rope_scaling": ("rope_parameters", f"{ROPE}; rope_type and factor of a scaling stand in it"),
    "warmup_ratio": (
        "warmup_steps",
        "it is `warmup_steps: 0.1` since transformers 5, a share of the steps where it is below 1",
    ),
}

# Keys of a stage that the recipe language has a place for, and what does their work until then.
LATER = {
    "launch": "start the whole run by `accelerate launch --config_file FILE -m llmkit run`",
    "executor": "every stage runs on this machine",
    "engine": "transformers generates",
    "time_limit": "`timeout 3h llmkit run ...` stops with a checkpoint, and the next run goes on",
}


def load(target: str) -> Any:
    """The object that `"module:name"` names."""
    module, name = target.split(":")
    return getattr(import_module(module), name)


@cache
def hints_of(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def expanded(value: object, presets: Mapping[str, list[Any]]) -> object:
    """A list with the words of `presets` replaced by what they stand for; or such a word alone."""
    items = [value] if isinstance(value, str) and value in presets else value
    if not isinstance(items, list):
        return value
    found: list[Any] = []
    for item in items:
        found += presets[item] if isinstance(item, str) and item in presets else [item]
    return found


def in_place_of(key: str, known: Collection[str]) -> str:
    """How a key of before is said now, else the nearest one that there is."""
    now, remedy = FORMER.get(key, ("", ""))
    return remedy if now in known else nearest(key, known)


@dataclass(frozen=True)
class Reference:
    """A place in a recipe that names what another stage makes."""

    path: Path
    mark: Refers
    value: str | None


@dataclass
class Builder:
    """Collects the problems and the references of everything it builds."""

    problems: list[Problem] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)

    def fault(self, path: Path, what: str, remedy: str = "") -> None:
        self.problems.append(Problem(path, what, remedy))

    def build(self, cls: type, mapping: object, path: Path) -> Any | None:
        """An instance of the dataclass `cls`, or None when the mapping has faults."""
        faults_before = len(self.problems)
        if not isinstance(mapping, Mapping):
            self.fault(path, f"{cls.__name__} takes a mapping, not {describe(mapping)}")
            return None
        hints = hints_of(cls)
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for key in mapping:
            if key not in fields:
                self.unknown_key(cls, str(key), fields, path)
        values = {}
        for name, spec in fields.items():
            if name in mapping:
                values[name] = self.value(hints[name], mapping[name], (*path, name))
            elif spec.default is MISSING and spec.default_factory is MISSING:
                self.fault((*path, name), f"{cls.__name__} needs this key")
            elif get_origin(hints[name]) is Annotated:
                self.unset(hints[name], spec, (*path, name))
        if len(self.problems) > faults_before:
            return None
        try:
            return cls(**values)
        except ValueError as error:  # a component's own __post_init__ speaks of ranges
            self.fault(path, str(error))
            return None

    def unknown_key(self, cls: type, key: str, fields: Collection[str], path: Path) -> None:
        if key in LATER and len(path) == 1:
            self.fault((*path, key), "is not honoured yet", LATER[key])
            return
        every = f"there are {', '.join(fields)}" if fields else "it takes none"
        self.fault((*path, key), f"no such key in {cls.__name__}", nearest(key, fields) or every)

    def unset(self, hint: Any, spec: dataclasses.Field[Any], path: Path) -> None:
        """A key that was left out still refers: to the one earlier stage, found later."""
        for mark in get_args(hint)[1:]:
            if isinstance(mark, Refers) and mark.implied and spec.default is None:
                self.references.append(Reference(path, mark, None))

    def value(self, hint: Any, value: object, path: Path) -> Any:
        """`value` as `hint` wants it; a problem is noted where it does not fit."""
        if get_origin(hint) is Annotated:
            plain, *marks = get_args(hint)
            if value is None and accepts_none(plain):
                self.unset_marks(marks, path)
                return None
            for mark in marks:
                if isinstance(mark, Passes):
                    return self.passed(mark, value, path)
                if isinstance(mark, Refers):
                    return self.referred(mark, value, path, many=get_origin(plain) in (list, tuple))
                if isinstance(mark, Named | Keyed):
                    return self.listed(mark, value, path)
            return self.value(plain, value, path)
        return self.plain(hint, value, path)

    def unset_marks(self, marks: list[object], path: Path) -> None:
        for mark in marks:
            if isinstance(mark, Refers) and mark.implied:
                self.references.append(Reference(path, mark, None))

    def plain(self, hint: Any, value: object, path: Path) -> Any:
        """Plain annotations: unions, literals, lists, mappings, dataclasses, scalars."""
        origin = get_origin(hint)
        if origin in (typing.Union, types.UnionType):
            return self.union(get_args(hint), value, path)
        if dataclasses.is_dataclass(hint):
            return self.build(typing.cast(type, hint), value, path)
        if origin in (list, tuple) and isinstance(value, list):
            inner = get_args(hint)[0] if get_args(hint) else Any
            return tuple(self.value(inner, item, (*path, i)) for i, item in enumerate(value))
        if not fits(hint, value):
            words = [str(w) for w in get_args(hint)] if origin is Literal else []
            self.fault(
                path, f"must be {name_of(hint)}, not {describe(value)}", nearest(str(value), words)
            )
        return value

    def union(self, options: tuple[Any, ...], value: object, path: Path) -> Any:
        """The first alternative that the value's shape fits; its faults are then told."""
        for option in options:
            if shape_fits(option, value):
                return self.value(option, value, path)
        names = " or ".join(name_of(option) for option in options)
        words = [str(w) for o in options if get_origin(o) is Literal for w in get_args(o)]
        self.fault(path, f"must be {names}, not {describe(value)}", nearest(str(value), words))
        return None

    def passed(self, mark: Passes, value: object, path: Path) -> dict[str, Any]:
        """Arguments for a Hugging Face class: names and types checked, owned ones refused."""
        if not isinstance(value, Mapping):
            self.fault(path, f"must be a mapping of {mark.to}'s arguments, not {describe(value)}")
            return {}
        known = self.known_fields(mark.to, value, path)
        if known is None:
            return {}
        title = mark.to.split(".")[-1]
        if mark.to == "transformers.AutoConfig":
            title = model_types()[value.get("model_type", "gpt2")]
        for key, item in value.items():
            here = (*path, str(key))
            if (
                key in OWNED or str(key).startswith("hub_")
            ) and mark.to != "transformers.AutoConfig":
                self.fault(here, "set by llmkit", OWNED.get(key, OWNED["push_to_hub"]))
            elif key not in known:
                self.fault(here, f"no such key in {title}", in_place_of(str(key), known))
            elif not known[key].accepts(item):
                kind = known[key]
                remedy = nearest(item, map(str, kind.words)) if isinstance(item, str) else ""
                self.fault(here, f"must be {wording(kind)}, not {describe(item)}", remedy)
        return dict(value)

    def known_fields(self, to: str, value: Mapping[str, Any], path: Path) -> dict[str, Kind] | None:
        if to != "transformers.AutoConfig":
            return fields_of(to)
        model_type = value.get("model_type", "gpt2")
        if model_type not in model_types():
            remedy = nearest(str(model_type), model_types())
            self.fault(
                (*path, "model_type"), f"{model_type!r} is no causal model of transformers", remedy
            )
            return None
        return config_fields(model_type) | {"model_type": Kind("str", (str,))}

    def referred(self, mark: Refers, value: object, path: Path, many: bool) -> Any:
        if many:
            if not isinstance(value, list) or not value:
                self.fault(path, f"must be a list of names, not {describe(value)}")
                return ()
            return tuple(self.referred(mark, v, (*path, i), False) for i, v in enumerate(value))
        if not isinstance(value, str):
            self.fault(path, f"must name a stage that makes {mark.kind}, not {describe(value)}")
            return ""
        self.references.append(Reference(path, mark, value))
        return value

    def listed(self, mark: Named | Keyed, value: object, path: Path) -> tuple[Any, ...]:
        """A list of components, each found in the literal dict that the mark names."""
        if isinstance(mark, Named) and mark.presets is not None:
            value = expanded(value, load(mark.presets))
        if not isinstance(value, list):
            self.fault(path, f"must be a list, not {describe(value)}")
            return ()
        table: dict[str, str] = load(mark.table)
        find = self.named if isinstance(mark, Named) else self.keyed
        return tuple(find(table, item, (*path, i)) for i, item in enumerate(value))

    def named(self, table: dict[str, str], item: object, path: Path) -> Any:
        """`gopher_quality`, or `minhash: {num_buckets: 20}`."""
        name: object = item
        options: object = None
        if isinstance(item, Mapping):
            if len(item) != 1:
                self.fault(path, f"takes one name with its options, not {describe(item)}")
                return None
            name, options = next(iter(item.items()))
        if str(name) not in table:
            known = ", ".join(table)
            self.fault(path, f"no {name!r} here", nearest(str(name), table) or f"there are {known}")
            return None
        return self.build(load(table[str(name)]), options or {}, (*path, str(name)))

    def keyed(self, table: dict[str, str], item: object, path: Path) -> Any:
        """`{hub: ID, name: CONFIG}`: the one key of the table selects the class."""
        if not isinstance(item, Mapping):
            self.fault(
                path, f"must be a mapping with one of {', '.join(table)}, not {describe(item)}"
            )
            return None
        found = [key for key in item if key in table]
        if len(found) != 1:
            what = "holds " + (" and ".join(found) if found else f"none of {', '.join(table)}")
            remedy = next(filter(None, (nearest(str(key), table) for key in item)), "")
            self.fault(path, what, remedy if not found else "keep one of them")
            return None
        return self.build(load(table[found[0]]), item, path)
