"""`grpo`: a model and tasks with verifiers to a better model, by `trl.GRPOTrainer`.

Each prompt gets several completions, and what earns more than the others of its group becomes more
likely (DeepSeekMath, https://arxiv.org/abs/2402.03300).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from llmkit.schema import Passes
from llmkit.trainers.task_policy import TaskPolicyStage


@dataclass(frozen=True, kw_only=True)
class GRPO(TaskPolicyStage):
    """Train `model` on `tasks`.

    Attributes:
        args: GRPOConfig. `max_completion_length` is what the tasks need where it is not given.
    """

    args: Annotated[dict[str, Any], Passes("trl.GRPOConfig")] = field(default_factory=dict)

    def _config(self) -> type[Any]:
        from trl import GRPOConfig

        return GRPOConfig

    def _trainer(self) -> type[Any]:
        from llmkit.trainers import group_policy

        return group_policy.GRPO
