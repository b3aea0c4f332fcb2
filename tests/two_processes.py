"""What `tests/test_ranks.py` has two processes do: `torchrun ... two_processes.py RECIPE FOLDER`.

Each process writes what it saw to `FOLDER/<rank>.json`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import llmkit
from llmkit.errors import GateError, Stopped, UserError
from llmkit.ranks import current
from llmkit.trainers.pretraining import Pretrainer

RANK = int(os.environ["RANK"])


def asked_to_stop(self: Pretrainer, loss: float) -> None:
    """The second process alone gets a signal, in its seventh step."""
    if RANK == 1 and self.state.global_step == 6:
        os.kill(os.getpid(), signal.SIGTERM)


def alone(self: Pretrainer, loss: float) -> None:
    """The second process alone fails, and leaves the first one waiting in the third step."""
    if RANK == 1 and self.state.global_step == 2:
        raise ValueError("mine alone")


def main(recipe: Path, folder: Path) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        run = llmkit.run(recipe, output_dir=folder / "whole")
    seen["said"] = said.getvalue()
    seen["steps"] = run["pretrain"].metrics["steps"]
    with patch.object(Pretrainer, "check_loss", asked_to_stop):
        try:
            llmkit.run(recipe, output_dir=folder / "stopped")
        except Stopped as stopped:
            seen["stopped"] = stopped.exit_status
    llmkit.run(recipe, output_dir=folder / "stopped")
    try:
        wild = {"pretrain.config.initializer_range": 3.0}
        llmkit.run(recipe, wild, only="pretrain", output_dir=folder / "whole")
    except GateError as error:
        seen["gate"] = str(error)
    try:
        llmkit.run(recipe, only="pretrain", output_dir=folder / "nothing")
    except UserError as error:
        seen["unfinished"] = str(error)
    seen["afterwards"] = current().count
    with patch.object(Pretrainer, "check_loss", alone), patch("llmkit.ranks.GRACE", 1.0):
        try:
            llmkit.run(recipe, output_dir=folder / "parted")
        except (ValueError, UserError) as error:
            seen["parted"] = str(error)
    try:
        llmkit.run(recipe, output_dir=folder / "parted")
    except UserError as error:
        seen["refused"] = str(error)
    return seen


if __name__ == "__main__":
    path = Path(sys.argv[2])
    (path / f"{RANK}.json").write_text(json.dumps(main(Path(sys.argv[1]), path)))
    os._exit(0)  # threads of gloo and Arrow abort a process now and then that takes itself down
