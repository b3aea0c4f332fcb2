"""Questions about a world without their answers: what a policy practises on, and the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from llmkit.data.tinyworld.asking import Asker, check_shares, dealt
from llmkit.data.tinyworld.questions import Question, Sum
from llmkit.data.tinyworld.wordings import Split
from llmkit.data.tinyworld.world import World


@dataclass(frozen=True, kw_only=True)
class PromptMix:
    """What is asked, each a share of all prompts; the rest asks for known facts."""

    unknown: float = 0.2
    sums: float = 0.3

    def __post_init__(self) -> None:
        check_shares((self.unknown, self.sums), "prompts")


def prompts(
    world: World, num: int, seed: int = 0, split: Split = "train", mix: PromptMix | None = None
) -> Iterator[dict[str, Any]]:
    """Yield `num` rows `{"prompt": messages, "answer", "details"}`; the answer is the right value,
    "" where the thing does not exist. With `split="heldout"` of held-out wordings, names and sums.
    """
    rng = Random(f"{world.seed}:prompts:{split}:{seed}")
    asker, mix = Asker(world, split, rng), mix or PromptMix()
    shares: tuple[tuple[float, Callable[[], Question | Sum]], ...] = (
        (mix.unknown, asker.unknown),
        (mix.sums, asker.sum),
    )
    for _ in range(num):
        asked = dealt(rng, shares, asker.fact)()
        yield {
            "prompt": [{"role": "user", "content": asked.text}],
            "answer": asked.value,
            "details": details_of(asked),
        }


def details_of(asked: Question | Sum) -> dict[str, str]:
    """Of which sort a question is, and what it is about."""
    if isinstance(asked, Sum):
        return {"question": "sums"}
    return {
        "question": "facts" if asked.value else "unknown",
        "kind": asked.kind,
        "attribute": asked.attribute,
        "name": asked.name,
    }
