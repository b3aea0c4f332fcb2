"""What a stage may name where it wants a reward model: a stage, a folder, a Hub id."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmkit.build import Reference
from llmkit.references import resolve
from llmkit.schema import Refers
from llmkit.stage import Stage
from llmkit.stages.dpo import DPO
from llmkit.stages.reward import Reward

EARLIER: dict[str, type[Stage]] = {"judge": Reward, "chat": DPO}


def found(value: str, kind: str = "reward_model") -> tuple[object, str]:
    reference = Reference(("rewards", 0, "model"), Refers(kind), value)
    target, problem = resolve(reference, "ppo", EARLIER, {"later"})
    return target, str(problem or "")


def test_what_is_accepted(tmp_path: Path) -> None:
    assert found("judge") == ("judge", "")
    assert found(str(tmp_path)) == (tmp_path, "")
    assert found("owner/reward-model") == ("owner/reward-model", "")


@pytest.mark.parametrize(
    ("value", "kind", "what"),
    [
        ("chat", "reward_model", "chat makes model, not reward_model; there is judge"),
        ("judge", "model", "judge makes reward_model, not model; there is chat"),
        ("jugde", "reward_model", "did you mean judge?; a Hub id has the form owner/name"),
        ("later", "reward_model", "later comes later"),
    ],
)
def test_what_is_refused(value: str, kind: str, what: str) -> None:
    target, problem = found(value, kind)
    assert target is None and problem.startswith("rewards[0].model: ") and what in problem
