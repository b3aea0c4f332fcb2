"""YAML 1.2 to plain values, with the line of every key and no key twice.

PyYAML reads `1e-4` as a text, `no` as false and keeps the last of two equal keys in silence
(YAML 1.1). ruamel.yaml follows 1.2; its node tree is walked here because it knows the lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from llmkit.errors import Problem

Path = tuple[str | int, ...]
_TAG = "tag:yaml.org,2002:"


@dataclass
class Document:
    """A parsed text: its `value`, the `lines` of its paths (from 1), and `problems` with theirs."""

    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[tuple[int, Problem]] = field(default_factory=list)


def parse(text: str) -> Document:
    """Read one YAML document. What is wrong with it stands in `problems`, never raised."""
    document = Document()
    try:
        node = YAML(typ="safe", pure=True).compose(text)
        document.value = None if node is None else _value(node, (), document)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(filter(None, (error.context, error.problem)))
        line = mark.line + 1 if mark else 1
        document.problems.append((line, Problem((), f"not valid YAML: {what}")))
    except YAMLError as error:
        document.problems.append((1, Problem((), f"not valid YAML: {error}")))
    except RecursionError:  # or an anchor that holds its own alias
        document.problems.append((1, Problem((), "nested too deeply to be read")))
    return document


def scalar(text: str) -> Any:
    """One value, as an override on the command line gives it: `1e-4` is a number, `[a]` a list."""
    document = parse(text)
    return text if document.problems else document.value


def _value(node: Node, path: Path, document: Document) -> Any:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, MappingNode):
        return _mapping(node, path, document)
    if isinstance(node, SequenceNode):
        return [_value(item, (*path, i), document) for i, item in enumerate(node.value)]
    assert isinstance(node, ScalarNode)
    return _scalar(node)


def _mapping(node: MappingNode, path: Path, document: Document) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, ScalarNode):
            document.problems.append((line, Problem(path, "a key must be a plain word")))
            continue
        key = str(key_node.value)
        here = (*path, key)
        if key in mapping:
            what = f"given twice, first on line {document.lines[here]}"
            document.problems.append((line, Problem(here, what, "keep one")))
            continue
        document.lines[here] = line
        mapping[key] = _value(value_node, here, document)
    return mapping


def _scalar(node: ScalarNode) -> Any:
    text = node.value
    if node.tag == _TAG + "null":
        return None
    if node.tag == _TAG + "bool":
        return text.lower() == "true"
    if node.tag == _TAG + "int":
        digits = text.replace("_", "")
        return int(digits, 0) if re.match(r"[-+]?0[xob]", digits) else int(digits)
    if node.tag == _TAG + "float":
        number = text.replace("_", "").lower()
        return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", number))
    return text
