"""How fast a training goes and what it has cost, over all its ranks and all its processes."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from llmkit.cost.flops import flops_per_token
from llmkit.cost.hardware import device_named
from llmkit.cost.shapes import shape_of

SPENT = "spent.json"  # in each checkpoint
SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class Spent:
    """What a training took up to a checkpoint, in all its processes.

    Attributes:
        tokens: read by all ranks.
        seconds: of training, evaluation and saving included.
    """

    tokens: int = 0
    seconds: float = 0.0

    @classmethod
    def until(cls, checkpoint: Path) -> Spent:
        return cls(**json.loads((checkpoint / SPENT).read_text(encoding="utf-8")))

    def save(self, checkpoint: Path) -> None:
        (checkpoint / SPENT).write_text(json.dumps(asdict(self)), encoding="utf-8")


@dataclass
class Meter:
    """What the trainer counts and the display reads.

    Attributes:
        tokens: seen by this rank in this process.
        loss: of the last step.
        before: what earlier processes of the same training took.
    """

    tokens: int = 0
    loss: float | None = None
    before: Spent = Spent()


@dataclass(frozen=True)
class Rates:
    """What turns tokens/s into MFU: FLOPs a token by both formulas, and the peak of all ranks.

    `peak` is None where the device is none of the table in `llmkit.cost.hardware`.
    """

    llm_c: int
    nanogpt: int
    peak: float | None

    @classmethod
    def of(cls, model: PreTrainedModel, context: int, ranks: int) -> Rates | None:
        """For a model where it lies now; None where its family has no formula."""
        shape = shape_of(model.config.to_dict())
        if shape is None:
            return None
        device = next(model.parameters()).device
        known = None
        if device.type == "cuda":
            known = device_named(torch.cuda.get_device_name(device))
        both = [flops_per_token(shape, context, formula) for formula in ("llm.c", "nanogpt")]
        return cls(both[0], both[1], None if known is None else known.flops * ranks)

    def mfu(self, tokens_per_second: float) -> dict[str, float]:
        """`{mfu, mfu_nanogpt}`, shares of 1; empty where the peak is not known."""
        if self.peak is None:
            return {}
        return {
            "mfu": self.llm_c * tokens_per_second / self.peak,
            "mfu_nanogpt": self.nanogpt * tokens_per_second / self.peak,
        }


class Pace:
    """Tokens/s, MFU and dollars of a training.

    Args:
        meter: of this rank.
        ranks: that train together, one accelerator each.
        price: dollars for an hour of one of them.
        rates: for the MFU.
    """

    def __init__(
        self, meter: Meter, ranks: int = 1, price: float | None = None, rates: Rates | None = None
    ) -> None:
        self.meter, self.ranks, self.price, self.rates = meter, ranks, price, rates
        self.start()

    def start(self) -> None:
        """The training begins now."""
        self.started = self._logged_at = time.monotonic()
        self._logged_tokens = self.meter.tokens

    def spent(self) -> Spent:
        """By this process and those before it."""
        seconds = time.monotonic() - self.started
        tokens = self.meter.tokens * self.ranks
        return Spent(self.meter.before.tokens + tokens, self.meter.before.seconds + seconds)

    def tokens_per_second(self) -> float:
        """Mean over this process so far, of all ranks; evaluation and saving included."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        return self.meter.tokens * self.ranks / seconds

    def cost(self) -> dict[str, float]:
        """`{cost}` so far, in dollars; empty without a price."""
        if self.price is None:
            return {}
        hours = self.spent().seconds / SECONDS_AN_HOUR
        return {"cost": round(hours * self.ranks * self.price, 4)}

    def mfu(self, tokens_per_second: float) -> dict[str, float]:
        found = {} if self.rates is None else self.rates.mfu(tokens_per_second)
        return {name: round(value, 4) for name, value in found.items()}

    def in_words(self) -> str:
        """`5,000 tokens/s, MFU 41.2 %, $3.20`."""
        rate = self.tokens_per_second()
        said = [f"{rate:,.0f} tokens/s"]
        said += [f"MFU {100 * share:.1f} %" for share in self.mfu(rate).values()][:1]
        said += [f"${dollars:,.2f}" for dollars in self.cost().values()]
        return ", ".join(said)

    def since_the_last(self) -> dict[str, Any]:
        """Tokens/s and MFU since this was asked the last time, and the dollars so far."""
        now = time.monotonic()
        tokens = (self.meter.tokens - self._logged_tokens) * self.ranks
        rate = tokens / max(now - self._logged_at, 1e-9)
        self._logged_at, self._logged_tokens = now, self.meter.tokens
        return {"tokens_per_second": round(rate, 1)} | self.mfu(rate) | self.cost()
