"""`{function: "package.module:name"}`: a Python function of one's own, in TRL's signature.

The module is looked for where Python finds modules, and in the folder that llmkit was started in.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit.errors import InputError, UserError
from llmkit.rewards.reward import Reward, RewardFunction

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@dataclass(frozen=True, kw_only=True)
class FunctionReward(Reward):
    """`function(prompts, completions, **columns) -> list[float]`."""

    function: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not NAME.fullmatch(self.function):
            raise ValueError(f"function: {self.function!r} is not of the form package.module:name")

    @property
    def label(self) -> str:
        return self.function.partition(":")[2]

    def files(self) -> Iterator[Path]:
        """The module's file: where it changes, the stage is run again."""
        module = self.function.partition(":")[0]
        with_own_folder()
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            spec = None
        if spec is None:
            remedy = f"start llmkit in the folder that holds it (now {os.getcwd()}), or install it"
            raise InputError(f"reward {self.function}", f"there is no module {module}", remedy)
        if spec.origin is not None and Path(spec.origin).is_file():
            yield Path(spec.origin)

    def prepare(self) -> None:
        self.loaded()

    def loaded(self) -> RewardFunction:
        """The function. Raises UserError where it cannot be had, or is none that can be called."""
        module, _, name = self.function.partition(":")
        where = f"reward {self.function}"
        with_own_folder()
        try:
            found = vars(importlib.import_module(module)).get(name)
        except Exception as error:  # a stranger's module may raise anything
            what = f"its module cannot be imported: {type(error).__name__}: {error}"
            raise UserError(where, what, "mend or install it") from error
        if found is None:
            raise UserError(where, f"the module {module} has no {name}", "check the name")
        if not callable(found):
            raise UserError(where, f"{name} is {type(found).__name__}, not a function")
        if inspect.iscoroutinefunction(found):
            raise UserError(where, f"{name} is asynchronous", "give a plain function")
        function: RewardFunction = found
        return function

    def _function(
        self, inputs: Mapping[str, Path | str], tokenizer: PreTrainedTokenizerFast, device: Any
    ) -> RewardFunction:
        return self.loaded()


def with_own_folder() -> None:
    """Let Python find modules where llmkit was started, behind everything installed."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
