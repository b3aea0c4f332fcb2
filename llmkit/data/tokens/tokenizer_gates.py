"""What must be true of a tokenizer folder before anything is encoded with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmkit.data.tokens import tiktoken_ranks
from llmkit.data.tokens import tokenizer_quality as quality
from llmkit.stage import Context

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from llmkit.data.tokens.vocabulary import Layout


def specials_gate(context: Context, saved: Any, layout: Layout) -> None:
    """Every special token has the id that it was asked to have, and no learnt one."""
    due = dict(layout.specials)
    ids = {name: saved.convert_tokens_to_ids(name) for name in due}
    remedy = "choose a pattern that does not take a special's spelling for one piece"
    context.gate("specials_after_vocabulary", ids == due, str(ids), str(due), remedy)


def text_gates(context: Context, encoded: quality.Encoded, specials: list[str]) -> None:
    """Documents, hard strings and the specials' spellings go through the tokenizer and back."""
    spelled = [*quality.HARD_STRINGS, *quality.texts_with_specials(encoded.texts, specials)]
    batches = [encoded, quality.Encoded.of(encoded.encoder, spelled)]
    count = len(encoded.texts) + len(spelled)
    changed = [text for batch in batches for text in batch.changed()]
    bound = f"0 of {count} texts changed by encoding and decoding"
    remedy = f"look at {changed[:1]!r:.200}"
    context.gate("round_trip", not changed, len(changed), bound, remedy)

    first_special = encoded.encoder.get_vocab_size(with_added_tokens=False)
    leaking = [text for batch in batches for text in batch.leaking(first_special)]
    bound = f"0 of {count} texts, the specials' own spellings among them, give a special's id"
    bound += " where special tokens are split (as documents and users' words are encoded)"
    remedy = f"look at {leaking[:1]!r:.200}"
    context.gate("specials_from_text", not leaking, len(leaking), bound, remedy)


def template_gate(context: Context, saved: Any) -> None:
    """The chat template marks the assistant's words; nothing to see where there is none."""
    if saved.chat_template is None:
        return
    fault = quality.template_mask_fault(saved)
    bound = "the assistant's words and the end of each of its turns"
    remedy = "put {% generation %} and {% endgeneration %} around them in the template"
    context.gate("chat_template_marks", not fault, fault or "just these", bound, remedy)


def ranks_gate(context: Context, encoder: Tokenizer) -> None:
    """tiktoken, given the tokens as ranks, joins what the tokenizer's own merges join.

    tiktoken knows no merges: it has them from the ranks. Equal merges in equal order give equal
    ids.
    """
    ranks = {token: rank for rank, token in enumerate(tiktoken_ranks.tokens_of(encoder))}
    told = tiktoken_ranks.merges_of(ranks)
    own = tiktoken_ranks.own_merges(encoder)
    differing = sum(a != b for a, b in zip(told, own, strict=False)) + abs(len(told) - len(own))
    bound = f"0 of {len(own)} merges differ from those that tiktoken reads out of the ranks"
    remedy = "do not use the exported ranks; the tokenizer itself is sound (`gates: warn`)"
    context.gate("tiktoken_ranks", differing == 0, differing, bound, remedy)
