"""Lets a model choose among endings by their likelihood, as build-nanogpt and llm.c do.

    accuracy        the right ending has the least  sum -ln p(token)
    accuracy_norm   the right ending has the least  sum -ln p(token) / its tokens

given the text and every token before; the text itself does not count. Nothing stands before the
text. https://github.com/karpathy/llm.c/blob/master/dev/data/hellaswag.py ("completion style";
lm-eval's figures are of another form and not comparable).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmkit.errors import InputError
from llmkit.tasks.task import Choice

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

Right = tuple[bool, bool]  # by the sum, and by the mean over an ending's tokens


def chosen(
    choices: Sequence[Choice],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    label: str,
) -> list[Right]:
    """Whether each choice was made right. The model is in evaluation mode afterwards.

    Raises:
        InputError: a text or an ending has no token, or both together do not fit the context.
    """
    from llmkit.decode import nats
    from llmkit.model import context_length

    rows, counts = [], []
    for number, choice in enumerate(choices, start=1):
        before = ids_of(tokenizer, choice.text)
        for ending in choice.endings:
            after = ids_of(tokenizer, ending)
            if not before or not after or len(before) + len(after) > context_length(model):
                what = f"choice {number} has {len(before)} and {len(after)} tokens"
                remedy = f"each needs one, and both must fit into {context_length(model)}"
                raise InputError(label, what, remedy)
            rows.append(([*before, *after], [0] * len(before) + [1] * len(after)))
            counts.append(len(after))
    found, right, at = nats(model, rows, label), [], 0
    for choice in choices:
        end = at + len(choice.endings)
        sums = found[at:end]
        means = [value / count for value, count in zip(sums, counts[at:end], strict=True)]
        right.append((is_least(sums, choice.right), is_least(means, choice.right)))
        at = end
    return right


def is_least(values: Sequence[float], index: int) -> bool:
    """Whether the first of the least values stands at `index`."""
    return min(range(len(values)), key=values.__getitem__) == index


def ids_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def shares(right: Sequence[Right], label: str) -> dict[str, dict[str, float]]:
    """`accuracy_norm` and `accuracy` as {value, low, high, n}.

    Raises:
        InputError: there is nothing to choose.
    """
    from llmkit.metrics.proportion import Proportion

    if not right:
        raise InputError(label, "there is nothing to choose", "give it a data set with rows")
    plain, normed = zip(*right, strict=True)
    return {
        "accuracy_norm": Proportion().compute(scores=[float(value) for value in normed]),
        "accuracy": Proportion().compute(scores=[float(value) for value in plain]),
    }
