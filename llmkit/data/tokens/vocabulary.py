"""Which ids a vocabulary learns and where its special tokens stand.

Learnt ids come first, 0 to `learned` - 1; each special has the id that was asked for, and an id
that nobody asked for is a reserved token, so that the ids have no holes (`tokenizers` numbers added
tokens one after another).

GPT-4's layout is that of cl100k_base in
https://github.com/openai/tiktoken/blob/main/tiktoken_ext/openai_public.py: 256 bytes and 100,000
merges, specials at 100257 to 100260 and at 100276, and nothing at the ids between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmkit.data.tokens.bpe import END_OF_TEXT, NUM_BYTES, SPECIALS

CL100K_LEARNED = 100_256
CL100K_SPECIALS = {
    END_OF_TEXT: 100_257,
    "<|fim_prefix|>": 100_258,
    "<|fim_middle|>": 100_259,
    "<|fim_suffix|>": 100_260,
    "<|endofprompt|>": 100_276,
}
RESERVED = "<|reserved_{}|>"


@dataclass(frozen=True)
class Layout:
    """`learned` ids, then the specials at theirs; `total` ids in all."""

    learned: int
    specials: Mapping[str, int]
    total: int

    def added(self) -> list[str]:
        """The tokens of the ids from `learned` on, in order, reserved ones among them."""
        names = {token_id: name for name, token_id in self.specials.items()}
        return [names.get(i, RESERVED.format(i)) for i in range(self.learned, self.total)]


def at_the_end(vocab_size: int) -> Layout:
    """llmkit's own layout: its six specials are the last of `vocab_size` ids."""
    return placed(vocab_size - len(SPECIALS), {}, SPECIALS)


def placed(learned: int, asked: Mapping[str, int], wanted: Sequence[str]) -> Layout:
    """A layout with the specials of `asked` at their ids, and those of `wanted` that are not in it.

    The latter take the lowest ids that are free above the first special asked for.

    Raises:
        ValueError: an id is asked for twice, or is a learnt one's.
    """
    taken: dict[int, str] = {}
    for name, token_id in asked.items():
        if token_id < learned:
            raise ValueError(
                f"{name} is asked to be {token_id}, and ids to {learned - 1} are learnt"
            )
        if token_id in taken:
            raise ValueError(f"{taken[token_id]} and {name} are both asked to be {token_id}")
        taken[token_id] = name
    free = min(taken, default=learned)
    for name in wanted:
        if name in asked:
            continue
        while free in taken:
            free += 1
        taken[free] = name
    specials = {taken[token_id]: token_id for token_id in sorted(taken)}
    return Layout(learned, specials, max(taken, default=learned - 1) + 1)


def asked_for(specials: Mapping[str, int]) -> Layout:
    """The layout that a recipe's `specials:` describes: all ids below its first one are learnt.

    Raises:
        ValueError: there is no end-of-text, no room for the bytes, or an id is asked for twice.
    """
    if END_OF_TEXT not in specials:
        raise ValueError(f"{END_OF_TEXT} is not among them, and it closes every document")
    learned = min(specials.values())
    if learned < NUM_BYTES:
        raise ValueError(f"ids from {learned} on leave no room for the {NUM_BYTES} bytes")
    return placed(learned, specials, SPECIALS)


def gpt4() -> Layout:
    """cl100k_base's 100,277 ids, with llmkit's own specials in its first holes."""
    return placed(CL100K_LEARNED, CL100K_SPECIALS, SPECIALS)
