"""`{function: module:name}`: found where llmkit was started, and every fault told beforehand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmkit.errors import InputError, UserError
from llmkit.rewards.function import FunctionReward

CODE = """
def brief(prompts, completions, **columns):
    return [1.0 / len(said[-1]["content"]) for said in completions]

async def later(prompts, completions, **columns):
    return []

NUMBER = 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module in the folder that llmkit was started in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_rewards.py").write_text(CODE)
    (tmp_path / "broken_rewards.py").write_text("import nothing_like_this\n")
    yield tmp_path
    for name in ("own_rewards", "broken_rewards"):
        sys.modules.pop(name, None)


def test_a_function_of_ones_own(module: Path) -> None:
    reward = FunctionReward(function="own_rewards:brief", weight=0.5)
    reward.prepare()
    function = reward.callable({}, None, "cpu")  # type: ignore[arg-type]
    said = [[{"role": "assistant", "content": text}] for text in ("ab", "abcd")]
    assert function(prompts=["x", "y"], completions=said, ended=[True, True]) == [0.5, 0.25]
    assert reward.label == "brief"
    assert list(reward.files()) == [module / "own_rewards.py"]  # its text is part of the key


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("own_rewards:missing", "the module own_rewards has no missing; check the name"),
        ("own_rewards:NUMBER", "NUMBER is int, not a function"),
        ("own_rewards:later", "later is asynchronous; give a plain function"),
        ("broken_rewards:x", "its module cannot be imported: ModuleNotFoundError: No module"),
    ],
)
def test_what_cannot_be_called(module: Path, name: str, what: str) -> None:
    with pytest.raises(UserError) as raised:
        FunctionReward(function=name).prepare()
    assert f"reward {name}: {what}" in str(raised.value)


@pytest.mark.parametrize("name", ["nowhere:x", "no.package:x"])
def test_a_module_that_is_not_there(module: Path, name: str) -> None:
    with pytest.raises(InputError, match="there is no module .*start llmkit in the folder"):
        list(FunctionReward(function=name).files())


@pytest.mark.parametrize("name", ["rewards.py", "a.b", "a b:c", "a:b:c", "a:", ":b", "1a:b"])
def test_a_name_of_another_form(name: str) -> None:
    with pytest.raises(ValueError, match="not of the form package.module:name"):
        FunctionReward(function=name)
