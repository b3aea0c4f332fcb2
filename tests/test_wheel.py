"""The wheel: what is no Python file travels in it too, and it works far from a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_every_file_of_the_package_and_every_recipe_is_in_the_wheel(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    package = [
        p for p in (ROOT / "llmkit").rglob("*") if p.is_file() and "__pycache__" not in p.parts
    ]
    wanted = {p.relative_to(ROOT).as_posix() for p in package}
    for room in ("recipes", "accelerate_configs"):
        files = list((ROOT / room).rglob("*.yaml"))
        assert files
        wanted |= {f"llmkit/{p.relative_to(ROOT).as_posix()}" for p in files}
    assert wanted - held == set()


def test_the_installed_command_works_in_another_folder(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps"]
    subprocess.run([*command, "--no-index", str(wheel)], check=True, capture_output=True)
    # The libraries come from this environment; a checkout installed in it does not, since Python
    # reads the .pth files of its own folders alone.
    environment = os.environ | {"PYTHONPATH": sysconfig.get_path("purelib")}

    def said(*words: str) -> str:
        command = [str(tmp_path / "venv" / "bin" / "llmkit"), *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = said("recipes")
    assert all(file.stem in listed for file in (ROOT / "recipes").rglob("*.yaml"))
    assert said("check", "quickstart").startswith(str(tmp_path / "venv"))
    assert said("show", "quickstart").startswith("name: quickstart")
