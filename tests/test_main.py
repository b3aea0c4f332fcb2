"""The process of the command line ends with the command's status, whatever a library left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Aborts after all that Python does at exit, as threads of Arrow and gloo do.
ABORTS = """
import atexit, ctypes, sys
import llmkit.__main__ as command

def act():
    {imports}
    libc = ctypes.CDLL(None)
    libc.on_exit(ctypes.cast(libc.abort, ctypes.c_void_p), None)
    atexit.register(print, "a library's exit handler")
    print("done")
    return {status}

command.main = act
command.run()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="on_exit and abort are the GNU C library's")
@pytest.mark.parametrize("status", [0, 2])
@pytest.mark.parametrize("library", ["pyarrow", "torch"])
def test_a_run_that_used_an_unruly_library_ends_well_though_something_aborts_at_exit(
    library: str, status: int
) -> None:
    done = _python(ABORTS.format(imports=f"import {library}", status=status))
    assert done.returncode == status, done.stderr
    assert done.stdout == "done\na library's exit handler\n"  # and what was written is not lost


@pytest.mark.skipif(sys.platform != "linux", reason="on_exit and abort are the GNU C library's")
def test_without_them_python_ends_as_ever() -> None:
    assert _python(ABORTS.format(imports="pass", status=0)).returncode == -6


def test_the_module_and_the_installed_command_give_the_status_of_the_command() -> None:
    installed = [str(Path(sys.executable).with_name("llmkit"))]
    commands = [[sys.executable, "-m", "llmkit"]]
    commands += [installed] if Path(installed[0]).is_file() else []
    for command in commands:
        for words, status in ((["recipes"], 0), (["rnu"], 2), (["run", "--no-such-flag"], 2)):
            done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
            assert done.returncode == status, (words, done.stderr)


def _python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
