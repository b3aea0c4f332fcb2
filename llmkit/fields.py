"""What Hugging Face classes accept, read from their installed sources without importing them.

Importing `trl.SFTConfig` costs seconds and inspects the machine; a recipe is checked on any
laptop in a fraction of one. So the field tables come from the source text by `ast`: the annotated
fields of a dataclass and of its bases, or, for `GenerationConfig`, the keywords that its
`__init__` pops and the types that its docstring gives them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from llmkit.errors import LlmkitError
from llmkit.source_text import class_named, import_of, package_folder, string_pairs, value_named

# Classes a recipe may pass arguments to -> the file that defines them.
CLASSES = {
    "transformers.TrainingArguments": "transformers/training_args.py",
    "transformers.GenerationConfig": "transformers/generation/configuration_utils.py",
    "transformers.PreTrainedConfig": "transformers/configuration_utils.py",
    "trl.SFTConfig": "trl/trainer/sft_config.py",
    "trl.RewardConfig": "trl/trainer/reward_config.py",
    "trl.DPOConfig": "trl/trainer/dpo_config.py",
    "trl.GRPOConfig": "trl/trainer/grpo_config.py",
    "trl.RLOOConfig": "trl/trainer/rloo_config.py",
    "llmkit.PPOConfig": "llmkit/trainers/ppo_config.py",
    "peft.LoraConfig": "peft/tuners/lora/config.py",
}
MODEL_TYPES = "transformers/models/auto/auto_mappings.py"
ACTIVATIONS = "transformers/activations.py"
ACTIVATION_KEYS = ("activation_function", "hidden_act", "hidden_activation")
CAUSAL_LMS = "transformers/models/auto/modeling_auto.py"
ENUM_FILES = ("transformers/trainer_utils.py", "transformers/training_args.py")

_PLAIN: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
    "list": (list,),
    "tuple": (list,),
    "dict": (dict,),
    "None": (type(None),),
}


@dataclass(frozen=True)
class Kind:
    """The values an annotation accepts: plain types, and words it lists one by one.

    `anything` is set where the annotation names a class that YAML cannot write; then every value
    passes here and the Hugging Face class itself is the judge, before the first stage begins.
    `default` is the field's, where it is written as a literal.
    """

    text: str
    types: tuple[type, ...] = ()
    words: tuple[object, ...] = ()
    anything: bool = False
    default: Any = field(default=None, compare=False)

    @property
    def real(self) -> bool:
        """Whether a number must be written with a point for the class, which no recipe needs."""
        return float in self.types and not re.search(r"\bint\b", self.text)

    def accepts(self, value: object) -> bool:
        if self.anything:
            return True
        if isinstance(value, bool):
            return bool in self.types or any(value is word for word in self.words)
        if isinstance(value, str):
            return str in self.types or value in self.words
        return isinstance(value, self.types)


@cache
def fields_of(name: str) -> dict[str, Kind]:
    """Field name -> what it accepts, for a class of `CLASSES` (`"trl.SFTConfig"`)."""
    if name == "transformers.GenerationConfig":
        return _generation_fields()
    return dict(_class_fields(CLASSES[name], name.split(".")[-1]))


@cache
def config_fields(model_type: str) -> dict[str, Kind]:
    """Field name -> what it accepts, for the configuration of a `model_type`.

    Aliases of the class's `attribute_map` (`hidden_size` for GPT-2's `n_embd`) are fields too.
    """
    class_name = model_types()[model_type]
    modules = _string_pairs(MODEL_TYPES, "SPECIAL_MODEL_TYPE_TO_MODULE_NAME")
    module = modules.get(model_type, model_type).replace("-", "_")
    file = f"transformers/models/{module}/configuration_{module}.py"
    if not (package_folder("transformers") / file).exists():  # data2vec-text has one of its own
        file = f"transformers/models/{module}/configuration_{model_type.replace('-', '_')}.py"
    fields = dict(_class_fields(file, class_name))
    for statement in _class(file, class_name).body:
        if _target(statement) == "attribute_map" and isinstance(
            statement, ast.Assign | ast.AnnAssign
        ):
            aliases = ast.literal_eval(statement.value) if statement.value else {}
            fields |= {alias: fields[field] for alias, field in aliases.items() if field in fields}
    return fields | {key: _activation(fields[key]) for key in ACTIVATION_KEYS if key in fields}


def _activation(kind: Kind) -> Kind:
    """A name of transformers' table, where the field's default is one."""
    table = value_named(ACTIVATIONS, "ACT2CLS")
    keys = table.keys if isinstance(table, ast.Dict) else ()
    words = tuple(str(key.value) for key in keys if isinstance(key, ast.Constant))
    types = tuple(each for each in kind.types if each is not str)
    return replace(kind, types=types, words=words) if kind.default in words else kind


@cache
def model_types() -> dict[str, str]:
    """`model_type` -> configuration class, of every causal language model of transformers."""
    configs = _string_pairs(MODEL_TYPES, "CONFIG_MAPPING_NAMES")
    causal = _string_pairs(CAUSAL_LMS, "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")
    return {name: configs[name] for name in causal if name in configs}


def _class(file: str, name: str) -> ast.ClassDef:
    node = class_named(file, name)
    if node is None:
        what = f"{file} has no class {name}: this version of the library is not supported"
        raise LlmkitError(what)
    return node


@cache
def _class_fields(file: str, name: str) -> Mapping[str, Kind]:
    """The fields of a dataclass, those of its bases first, as `dataclasses.fields` orders them."""
    node = _class(file, name)
    fields: dict[str, Kind] = {}
    for base in reversed(node.bases):
        if isinstance(base, ast.Name) and (home := _home(file, base.id)):
            fields |= _class_fields(home, base.id)
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = ast.unparse(statement.annotation)
            if not text.startswith("ClassVar"):
                fields[statement.target.id] = kind_of(statement.annotation, statement.value)
    return fields


def _home(file: str, name: str) -> str | None:
    """The file that defines the class `name`, as seen from `file`; None outside the libraries."""
    if class_named(file, name) is not None:
        return file
    node = import_of(file, name)
    if node is None:
        return None
    known = CLASSES.get(f"{node.module}.{name}")
    if known or not (node.level or (node.module or "").startswith(file.split("/")[0])):
        return known
    start = file.split("/")[: -node.level] if node.level else []
    found = "/".join([*start, *(node.module or "").split(".")]).strip("/")
    root = package_folder(file.split("/")[0])
    if (root / f"{found}.py").exists():
        return _home(f"{found}.py", name)
    return _home(f"{found}/__init__.py", name)


def kind_of(annotation: ast.expr, default: ast.expr | None = None) -> Kind:
    """What an annotation accepts. A default of None makes None acceptable, whatever it says."""
    types: list[type] = []
    words: list[object] = []
    anything = False
    for part in _alternatives(annotation):
        name = ast.unparse(part.value if isinstance(part, ast.Subscript) else part)
        name = name.split(".")[-1]
        if name == "Literal" and isinstance(part, ast.Subscript):
            items = part.slice.elts if isinstance(part.slice, ast.Tuple) else [part.slice]
            words += [ast.literal_eval(item) for item in items]
        elif name in _PLAIN:
            types += _PLAIN[name]
        elif values := _enum_words(name):
            words += values
        else:
            anything = True
    if default is not None and _is_none(default):
        types.append(type(None))
    # `SchedulerType | str` takes any string on paper, but only the enum's words in truth.
    if words and str in types and _only_enum(annotation):
        types.remove(str)
    # peft writes a pattern, "pissa_niter_[number of iters]", among its words.
    if any("[" in str(word) for word in words):
        types.append(str)
    return Kind(ast.unparse(annotation), tuple(types), tuple(words), anything, _literal(default))


def _literal(default: ast.expr | None) -> Any:
    """The value of a default such as `12` or `field(default=0.1, ...)`; None for any other."""
    if isinstance(default, ast.Call):
        given = [word.value for word in default.keywords if word.arg == "default"]
        return _literal(given[0]) if given else None
    try:
        return None if default is None else ast.literal_eval(default)
    except ValueError:
        return None


def _is_none(default: ast.expr) -> bool:
    """`None`, or `field(default=None, ...)`."""
    if isinstance(default, ast.Call):
        return any(word.arg == "default" and _is_none(word.value) for word in default.keywords)
    return isinstance(default, ast.Constant) and default.value is None


def _alternatives(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from _alternatives(node.left)
        yield from _alternatives(node.right)
    elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith(
        ("Union", "Optional")
    ):
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        for item in items:
            yield from _alternatives(item)
        if ast.unparse(node.value).endswith("Optional"):
            yield ast.Constant(None)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from _alternatives(ast.parse(node.value, mode="eval").body)
    else:
        yield node


def _only_enum(annotation: ast.expr) -> bool:
    return any(_enum_words(ast.unparse(part)) for part in _alternatives(annotation))


@cache
def _enum_words(name: str) -> tuple[str, ...]:
    """The values of one of transformers' string enums, such as `SchedulerType`."""
    for file in ENUM_FILES:
        node = class_named(file, name)
        if node is not None:
            if not any("Enum" in ast.unparse(base) for base in node.bases):
                return ()
            values = [s.value for s in node.body if isinstance(s, ast.Assign)]
            return tuple(str(v.value) for v in values if isinstance(v, ast.Constant))
    return ()


def _target(statement: ast.stmt) -> str:
    if isinstance(statement, ast.AnnAssign):
        return ast.unparse(statement.target)
    return ast.unparse(statement.targets[0]) if isinstance(statement, ast.Assign) else ""


def _string_pairs(file: str, name: str) -> dict[str, str]:
    pairs = string_pairs(file, name)
    if pairs is None:
        raise LlmkitError(f"{file} has no {name}: this version of the library is not supported")
    return pairs


def _generation_fields() -> dict[str, Kind]:
    node = _class(CLASSES["transformers.GenerationConfig"], "GenerationConfig")
    init = next(s for s in node.body if isinstance(s, ast.FunctionDef) and s.name == "__init__")
    described = {}
    for name, text in re.findall(r"^\s+(\w+) \((.*)\):", ast.get_docstring(node) or "", re.M):
        described[name] = " | ".join(re.findall(r"`([^`]+)`", text.split("*optional*")[0]))
    fields = {}
    for call in ast.walk(init):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "kwargs.pop":
            name = ast.literal_eval(call.args[0])
            if not name.startswith("_"):
                fields[name] = _described_kind(described.get(name, ""))
    return fields


def _described_kind(text: str) -> Kind:
    """The kind that a docstring's words give; anything where they are no annotation."""
    text = re.sub(r"\b(List|Dict|Tuple)\b", lambda match: match[0].lower(), text)
    try:
        return kind_of(ast.parse(text, mode="eval").body, ast.Constant(None))
    except SyntaxError:
        return Kind(text, anything=True)
