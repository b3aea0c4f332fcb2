"""TRL's trainers of preference pairs with our guard, over rows that are ids already."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from trl import DPOTrainer, RewardTrainer

from llmkit.decode import nats
from llmkit.trainers.adapters import old_name_allowed
from llmkit.trainers.guard import Guarded
from llmkit.trainers.pairs import Ids

FIRST_LOSS = "first_loss"
FIRST_LOSS_MARGIN = 0.01  # nats; what bfloat16 and patches may differ from the same numbers


class RewardTuner(Guarded, RewardTrainer):
    """TRL's RewardTrainer over `chosen_ids` and `rejected_ids`, which it takes as they are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with old_name_allowed():
            super().__init__(*args, **kwargs)


class PreferenceTuner(Guarded, DPOTrainer):
    """TRL's DPOTrainer over `prompt_ids`, `chosen_ids` and `rejected_ids`.

    Policy and reference are one model before the first update, so both log ratios are zero then
    and the loss is ln 2. Another first loss tells of a reference with other weights, or of dropout.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with old_name_allowed():
            super().__init__(*args, **kwargs)

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """TRL would tokenize; these rows are ids."""
        return dataset

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        with old_name_allowed():
            return super().compute_loss(*args, **kwargs)

    def check_loss(self, loss: float) -> None:
        if self.state.global_step == 0 and self._starts_at_ln2:
            if self.args.should_save:
                self._first_loss_note.write_text(json.dumps(loss), encoding="utf-8")
            self.gate_first_loss(loss)

    @property
    def _starts_at_ln2(self) -> bool:
        """True of the plain loss; other losses start at other values."""
        plain = list(self.args.loss_type) == ["sigmoid"] and not self.args.use_weighting
        return plain and self.args.loss_weights in (None, [1.0])

    @property
    def _first_loss_note(self) -> Path:
        return self.context.scratch / f"{FIRST_LOSS}.json"

    def recall_gates(self) -> None:
        """The first loss is measured once, at the very start."""
        if self._first_loss_note.is_file():
            self.gate_first_loss(json.loads(self._first_loss_note.read_text(encoding="utf-8")))

    def gate_first_loss(self, loss: float) -> None:
        self.context.gate(
            FIRST_LOSS,
            abs(loss - math.log(2)) <= FIRST_LOSS_MARGIN,
            round(loss, 4),
            f"within {FIRST_LOSS_MARGIN} of ln 2 = {math.log(2):.4f}, where policy and reference "
            "are one model",
            "leave disable_dropout on",
        )


def answer_log_probabilities(
    model: PreTrainedModel, prompts: Sequence[Ids], answers: Sequence[Ids], label: str
) -> list[float]:
    """The summed ln p of each answer's tokens after its prompt, the end of turn among them."""
    passages = [
        ([*prompt.tolist(), *answer.tolist()], [0] * len(prompt) + [1] * len(answer))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    return [-value for value in nats(model, passages, label)]
