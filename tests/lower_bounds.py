"""The lowest versions that pyproject.toml allows, as pip takes them for constraints.

python tests/lower_bounds.py > constraints.txt
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def lower_bounds(text: str) -> list[str]:
    """`name==version` of each of the project's own dependencies, by its `>=`."""
    dependencies = tomllib.loads(text)["project"]["dependencies"]
    found = [re.fullmatch(r"([\w.-]+)>=([\w.]+)(,<[\w.]+)?", each) for each in dependencies]
    assert all(found), f"a dependency without a lower bound in {dependencies}"
    return [f"{match[1]}=={match[2]}" for match in found if match]


if __name__ == "__main__":
    print("\n".join(lower_bounds(PYPROJECT.read_text(encoding="utf-8"))))
