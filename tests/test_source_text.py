"""Statements cut out of a source text, against those of the whole text parsed by `ast`."""

from __future__ import annotations

import ast
import re

import pytest

from llmkit import source_text
from llmkit.fields import CAUSAL_LMS, MODEL_TYPES
from llmkit.source_text import (
    class_named,
    function_named,
    import_of,
    statement,
    string_pairs,
    text_of,
    value_named,
)

TEXT = '''
from a.b import (
    One,
    Two as Three,
)  # and more
@decorated(
"""
class NotThis:
""")
class First(
    Base,
):
    """Says
class Last: in the middle of a text
"""
# a comment at the margin
    size: int = 3

    def method(self):
        return """
x = 1
"""
class Last: pass
'''


def test_every_statement_of_a_text_is_cut_as_ast_cuts_it() -> None:
    starts = [0, *(found.end() for found in re.finditer("\n", TEXT))]
    whole = ast.parse(TEXT).body
    assert len(whole) == 3
    for node in whole:
        cut = statement(TEXT, starts[node.lineno - 1])
        bare = ast.unparse(node).removeprefix("@decorated('\\nclass NotThis:\\n')\n")
        assert ast.unparse(cut) == bare


@pytest.mark.parametrize(
    "file",
    ["transformers/configuration_utils.py", "trl/trainer/grpo_config.py", "peft/config.py"],
)
def test_classes_and_imports_of_installed_files_are_those_that_ast_finds(file: str) -> None:
    body = ast.parse(text_of(file)).body
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    assert classes
    for node in classes:
        cut = class_named(file, node.name)
        node.decorator_list = []
        assert cut is not None and ast.dump(cut) == ast.dump(node)
    imports = [node for node in body if isinstance(node, ast.ImportFrom) and node.level]
    for node in imports:
        cut_import = import_of(file, node.names[-1].name)
        assert cut_import is not None and cut_import.module == node.module
    assert class_named(file, "NoSuchClass") is None and import_of(file, "no_such_name") is None


def test_functions_and_values_are_those_that_ast_finds() -> None:
    file = "transformers/optimization.py"
    body = ast.parse(text_of(file)).body
    functions = [n for n in body if isinstance(n, ast.FunctionDef) and n.name.startswith("get_")]
    values = [n for n in body if isinstance(n, ast.Assign)]
    assert len(functions) > 5 and values
    for node in functions:
        cut = function_named(file, node.name)
        assert cut is not None and ast.dump(cut) == ast.dump(node)
    for assigned in values:
        value = value_named(file, spelt(assigned))
        assert value is not None and ast.dump(value) == ast.dump(assigned.value)
    assert function_named(file, "get_") is None and value_named(file, "get_scheduler") is None


def test_pairs_are_those_that_ast_finds() -> None:
    for file, name in (
        (MODEL_TYPES, "CONFIG_MAPPING_NAMES"),
        (MODEL_TYPES, "SPECIAL_MODEL_TYPE_TO_MODULE_NAME"),
        (CAUSAL_LMS, "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"),
    ):
        body = ast.parse(text_of(file)).body
        (table,) = (n.value for n in body if isinstance(n, ast.Assign) and spelt(n) == name)
        assert isinstance(table, ast.Call)
        assert string_pairs(file, name) == dict(ast.literal_eval(table.args[0]))
        assert string_pairs(file, "NO_SUCH_TABLE") is None


def spelt(node: ast.Assign) -> str:
    return ast.unparse(node.targets[0])


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(source_text.LlmkitError, match="this version of the library"):
        text_of("trl/trainer/no_such_file.py")
    with pytest.raises(source_text.LlmkitError, match="is not installed"):
        text_of("no_such_package/file.py")
