"""`rloo`: a model and tasks with verifiers to a better model, by `trl.RLOOTrainer`.

REINFORCE, where each completion is compared with the mean of the others of its group (Ahmadian et
al., https://arxiv.org/abs/2402.14740), with the KL penalty inside the reward.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from llmkit.schema import Passes
from llmkit.trainers.task_policy import TaskPolicyStage


@dataclass(frozen=True, kw_only=True)
class RLOO(TaskPolicyStage):
    """Train `model` on `tasks`.

    Attributes:
        args: RLOOConfig. `max_completion_length` is what the tasks need where it is not given.
    """

    args: Annotated[dict[str, Any], Passes("trl.RLOOConfig")] = field(default_factory=dict)

    def _config(self) -> type[Any]:
        from trl import RLOOConfig

        return RLOOConfig

    def _trainer(self) -> type[Any]:
        from llmkit.trainers import group_policy

        return group_policy.RLOO
