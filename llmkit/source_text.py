"""Single statements out of the source of an installed library, which is not imported.

Some of those files take Python 40 ms to parse, for the sake of one class in them. So a statement
is cut out of the text first, at its beginning, and ends before the first line that begins another
one: a cut that falls inside a bracket or a string cannot be parsed, and moves on to the next.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path

from llmkit.errors import LlmkitError

# A line that begins at the margin begins a statement, unless it is a comment or closes a bracket.
_MARGIN = re.compile(r"^[^\s#)\]}]", re.M)
_PAIR = re.compile(r'\(\s*"([^"]*)",\s*"([^"]*)",?\s*\)')


@cache
def package_folder(package: str) -> Path:
    """The folder above an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise LlmkitError(f"{package} is not installed; pip install --upgrade llmkit")
    return Path(spec.origin).parent.parent


@cache
def text_of(file: str) -> str:
    """The text of a file such as `"trl/trainer/sft_config.py"`. Raises LlmkitError."""
    path = package_folder(file.split("/")[0]) / file
    if not path.exists():
        raise LlmkitError(f"{file} is not there: this version of the library is not supported")
    return path.read_text(encoding="utf-8")


def statement(text: str, start: int) -> ast.stmt:
    """The statement that begins at `start`, which is the beginning of a line."""
    for line in _MARGIN.finditer(text, start + 1):
        try:
            return ast.parse(text[start : line.start()]).body[0]
        except SyntaxError:  # inside a bracket or a string: it goes on
            continue
    return ast.parse(text[start:]).body[0]


@cache
def class_named(file: str, name: str) -> ast.ClassDef | None:
    """The class `name` that the file itself defines, without its decorators."""
    node = _begins(file, rf"class {re.escape(name)}\b")
    return node if isinstance(node, ast.ClassDef) else None


@cache
def function_named(file: str, name: str) -> ast.FunctionDef | None:
    """The function `name` that the file itself defines, without its decorators."""
    node = _begins(file, rf"def {re.escape(name)}\b")
    return node if isinstance(node, ast.FunctionDef) else None


@cache
def value_named(file: str, name: str) -> ast.expr | None:
    """What the module-level `name = ...` of the file says."""
    node = _begins(file, rf"{re.escape(name)}\b[^\n=]*=")
    return node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None


def _begins(file: str, pattern: str) -> ast.stmt | None:
    """The first statement at the margin that begins by `pattern`."""
    found = re.search(rf"^{pattern}", text_of(file), re.M)
    return statement(text_of(file), found.start()) if found else None


def import_of(file: str, name: str) -> ast.ImportFrom | None:
    """The `from ... import ...` by which the file has `name`."""
    text = text_of(file)
    for line in re.finditer(r"^from .*", text, re.M):
        end = _MARGIN.search(text, line.end())
        if re.search(rf"\b{re.escape(name)}\b", text[line.start() : end.start() if end else None]):
            node = statement(text, line.start())
            if isinstance(node, ast.ImportFrom) and any(a.name == name for a in node.names):
                return node
    return None


@cache
def string_pairs(file: str, name: str) -> dict[str, str] | None:
    """The module-level `name = OrderedDict([("gpt2", "GPT2Config"), ...])`, read by its pattern."""
    text = text_of(file)
    found = re.search(rf"^{re.escape(name)}\b[^\n=]*=", text, re.M)
    if found is None:
        return None
    end = _MARGIN.search(text, found.end())
    return dict(_PAIR.findall(text, found.end(), end.start() if end else len(text)))
