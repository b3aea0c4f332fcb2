"""What of a task's examples stands in the text that the models were trained on.

The counting is `llmkit.data.overlap`'s; here are the texts on either side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit.data.overlap import Found, Overlap
from llmkit.progress import track
from llmkit.tasks.task import ChoiceTask, Example, LikelihoodTask, Measured, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from llmkit.data.chat.conversations import ConversationSource

DECODED = 1000  # documents at once
NAMED = 5  # overlapping examples that are told word by word


@dataclass(frozen=True, kw_only=True)
class TrainingText:
    """The training split of `shards`, and every message of `conversations`."""

    shards: Path | None
    conversations: Sequence[ConversationSource]
    inputs: Mapping[str, Path | str]
    world: Mapping[str, Any]
    seed: int

    def texts(self, maker: PreTrainedTokenizerFast | None, label: str) -> Iterator[str]:
        """All of it, streamed; `maker` is the tokenizer that made the shards.

        Raises:
            InputError: a source is missing or broken.
        """
        if self.shards is not None and maker is not None:
            yield from documents(self.shards, maker, label)
        for source in self.conversations:
            yield from self._messages(source)

    def _messages(self, source: ConversationSource) -> Iterator[str]:
        import sys

        from llmkit.data.sources.readers import BadRows

        unbounded = BadRows(sys.maxsize)  # the stage that trains on them has judged them
        for chat in source.rows(self.world, self.inputs, self.seed, unbounded):
            yield from (message["content"] for message in chat)


def maker_of(
    shards: Path, tokenizers: Iterable[PreTrainedTokenizerFast]
) -> PreTrainedTokenizerFast | None:
    """The one of `tokenizers` that made the shards, as far as their vocabulary and end tell."""
    from llmkit.data.tokens.bpe import num_ids
    from llmkit.data.tokens.shards import TokenStream

    stream = TokenStream(shards, "train")
    made = (stream.vocab_size, stream.eos)
    return next((t for t in tokenizers if (num_ids(t), t.eos_token_id) == made), None)


def documents(shards: Path, tokenizer: PreTrainedTokenizerFast, label: str) -> Iterator[str]:
    """The training documents of `shards`, as the tokenizer that made them spells them."""
    from llmkit.data.tokens.shards import TokenStream

    stream, decode = TokenStream(shards, "train"), tokenizer.backend_tokenizer.decode_batch
    ids: list[list[int]] = []
    for document in track(stream.iter_documents(), label, stream.documents, "documents"):
        ids.append(document[:-1].tolist())
        if len(ids) == DECODED:
            yield from decode(ids, skip_special_tokens=False)
            ids = []
    yield from decode(ids, skip_special_tokens=False)


def texts_of(
    task: Measured, tokenizer: PreTrainedTokenizerFast, training: TrainingText
) -> list[list[str]]:
    """The texts of each of the task's examples: what is asked and what is answered, apart."""
    if isinstance(task, Task):
        return [spoken(example) for example in task.examples(training.world, training.seed)]
    if isinstance(task, ChoiceTask):
        shown = task.choices(training.world, training.seed)
        return [[choice.text, choice.endings[choice.right]] for choice in shown]
    if not isinstance(task, LikelihoodTask):
        return []
    special = set(tokenizer.all_special_ids)
    passages = task.passages(tokenizer, training.world, training.seed, training.shards)
    return [
        tokenizer.backend_tokenizer.decode_batch(pieces(passage.ids, special))
        for passage in passages
    ]


def spoken(example: Example) -> list[str]:
    """The prompt, or its messages, and the answer. A system message is no part of an example."""
    if isinstance(example.prompt, str):
        return [example.prompt, example.answer]
    said = [message["content"] for message in example.prompt if message["role"] != "system"]
    return [*said, example.answer]


def pieces(ids: Sequence[int], special: set[int]) -> list[list[int]]:
    """`ids` cut at the special ones, which stand between messages."""
    cut: list[list[int]] = [[]]
    for token in ids:
        if token in special:
            cut.append([])
        else:
            cut[-1].append(token)
    return [piece for piece in cut if piece]


def overlaps(
    examples: Mapping[str, Sequence[Sequence[str]]], texts: Iterable[str]
) -> tuple[dict[str, Found], dict[str, Any]]:
    """Task -> what was found; and the same to be written down, with some examples of it."""
    overlap = Overlap(examples)
    overlap.read(texts)
    found = overlap.found()
    record = {
        name: {
            "share": task.share,
            "overlapping": len(task.overlapping),
            "n": task.judged,
            "examples": [list(examples[name][number]) for number in task.overlapping[:NAMED]],
        }
        for name, task in found.items()
    }
    return found, record
