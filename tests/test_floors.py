"""The house: imports go down only, stages never meet, files and functions stay small."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "llmkit"
FLOORS = (
    (
        "errors",
        "schema",
        "stage",
        "source_text",
        "fields",
        "wording",
        "build",
        "yaml12",
        "run_dir",
        "progress",
    ),
    ("data", "kernels", "metrics", "device", "ranks", "tables", "cost"),
    (
        "tasks",
        "rewards",
        "generation",
        "decode",
        "decoding",
        "model",
        "reward_model",
        "new_layers",
        "patch",
        "patches",
        "report",
    ),
    ("trainers", "web"),
    ("stages",),
    ("overrides", "references", "reading", "assembly", "recipe"),
    (
        "stage_key",
        "run_record",
        "provenance",
        "trouble",
        "results",
        "span",
        "making",
        "ladder",
        "planning",
        "plan",
        "chat",
        "bench",
    ),
    ("cli", "__main__"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40
VAGUE = {"utils.py", "common.py", "helpers.py", "misc.py"}


def room(module: str) -> str:
    """`llmkit.data.tokens.shards` -> `data`; `llmkit` itself -> the empty text."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(file: Path) -> list[str]:
    """Every `llmkit...` module that a file imports, inside functions too."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "llmkit":
            found += [f"llmkit.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
    return [name for name in found if name.split(".")[0] == "llmkit"]


def test_every_room_has_a_floor() -> None:
    rooms = {room(module_of(file)) for file in FILES} - {""}
    assert rooms <= set(FLOOR), f"rooms without a floor: {sorted(rooms - set(FLOOR))}"


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_imports_go_down(file: Path) -> None:
    own = room(module_of(file))
    if not own:
        return  # the package's face names its exports as text and imports them when asked
    for name in imports(file):
        other = room(name)
        if other in ("", own) or name == "llmkit.__version__":
            continue
        assert FLOOR[other] <= FLOOR[own], f"{module_of(file)} imports {name}, which is above it"


def test_rooms_of_one_floor_make_no_circle() -> None:
    arrows: dict[str, set[str]] = {}
    for file in FILES:
        own = room(module_of(file))
        arrows.setdefault(own, set()).update(room(n) for n in imports(file) if room(n) != own)
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle of imports: {' -> '.join((*path, name))}"
        for other in arrows.get(name, set()) - done - {""}:
            visit(other, (*path, name))
        done.add(name)

    for name in list(arrows):
        visit(name, ())


@pytest.mark.parametrize("file", sorted((PACKAGE / "stages").glob("*.py")), ids=lambda f: f.stem)
def test_stages_never_import_stages(file: Path) -> None:
    assert not [name for name in imports(file) if name.startswith("llmkit.stages")]


@pytest.mark.parametrize("file", sorted((PACKAGE / "kernels").rglob("*.py")), ids=module_of)
def test_kernels_import_torch_and_triton_alone(file: Path) -> None:
    """And the standard library, which builds the native ones."""
    allowed = {"torch", "triton", "llmkit", "jaxtyping", *sys.stdlib_module_names}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.split(".")[0] in allowed, f"{module_of(file)} imports {name}"


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_files_and_functions_are_small(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) < MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines < MAX_FUNCTION_LINES, f"{module_of(file)}.{node.name}: {lines} lines"


def test_native_code_is_small() -> None:
    native = [file for kind in ("*.cpp", "*.h") for file in (PACKAGE / "kernels").rglob(kind)]
    assert native
    for file in native:
        text = file.read_text(encoding="utf-8")
        assert text.startswith("// ") and len(text.splitlines()) < MAX_FILE_LINES, file
        assert max(map(len, text.splitlines())) <= 100, file


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_every_module_says_what_it_is_for(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))


def test_no_room_without_a_name() -> None:
    assert not [file for file in FILES if file.name in VAGUE]


def test_no_logic_in_init_files() -> None:
    """Re-exports, docstrings and literal tables only; the package's face also looks them up."""
    for file in PACKAGE.rglob("__init__.py"):
        if file.parent == PACKAGE:
            continue
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            assert isinstance(node, ast.Expr | ast.ImportFrom | ast.Assign | ast.AnnAssign), file
            if isinstance(node, ast.Assign):
                assert not isinstance(node.value, ast.Call), file


def test_gates_have_names_of_one_style() -> None:
    calls = [
        node
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("gate", "gate_left_out")
    ]
    named = [call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)]
    assert len(named) > 10
    assert [name for name in named if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)] == []
