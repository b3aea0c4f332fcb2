"""What a recipe may say under `generation:`. Imports nothing heavy: a recipe check reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmkit.errors import Problem

IDS = "llmkit keeps the tokens alone"

# Arguments of GenerationConfig that stand against how llmkit generates.
REFUSED = {
    "max_length": "say max_new_tokens, which does not count the prompt",
    "num_return_sequences": "a prompt gets one completion here; see num_samples of `generate`",
    "return_dict_in_generate": IDS,
    "output_scores": IDS,
    "output_logits": IDS,
    "output_attentions": IDS,
    "output_hidden_states": IDS,
}


def generation_problems(generation: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with `generation:` whatever the model. Paths start at the stage's keys."""
    for key, reason in REFUSED.items():
        if key in generation:
            yield Problem(("generation", key), "has no place here", reason)
    wanted = generation.get("max_new_tokens", 1)
    if wanted is None or wanted < 1:
        remedy = "give a number of tokens, or leave it out"
        yield Problem(("generation", "max_new_tokens"), f"{wanted} is not positive", remedy)


def without_room(model: str, new_tokens: int, context_length: int | None) -> str:
    """Why no prompt fits before `new_tokens`; nothing where some do, or it is not known yet."""
    if context_length is None or new_tokens < context_length:
        return ""
    return f"{new_tokens} new tokens leave no room for a prompt in {model}'s {context_length}"
