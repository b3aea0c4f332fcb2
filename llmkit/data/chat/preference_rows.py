"""Rows of a preference data set to pairs, whatever their columns; what is wrong, in words.

The forms, told apart by their columns (`chosen` and `rejected` are in all of them;
`rejected_ended: false` beside them says that the rejected answer does not close its turn):

    prompt + chosen + rejected        TRL's explicit prompt: text, or lists of messages, each
    instruction (+ input) | question (+ system) | conversations, + chosen + rejected
                                      Alpaca's, Orca's and ShareGPT's names for the prompt
    chosen + rejected                 TRL's implicit prompt, https://huggingface.co/docs/trl :
                                      whole conversations (UltraFeedback), or transcripts
    chosen + rejected, or prompt      a transcript, "\\n\\nHuman: ...\\n\\nAssistant: ...", as in
                                      https://huggingface.co/datasets/Anthropic/hh-rlhf
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmkit.data.chat.chat_rows import Messages, checked, question_of, said

FORMS = (
    "chosen and rejected, as messages or as transcripts of Human and Assistant; the same with a "
    "prompt, question, instruction or conversations"
)
SPEAKERS = {"System": "system", "Human": "user", "Assistant": "assistant"}
TURN = re.compile(rf"(?:\A\s*|\n\n)({'|'.join(SPEAKERS)}):")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt.

    Attributes:
        prompt: the messages up to and including the user's last.
        chosen, rejected: the assistant's words.
        kind: what is wrong with the rejected one, where that is known.
        rejected_ended: whether the rejected one closes its turn; not where it ran out of tokens.
    """

    prompt: Messages
    chosen: str
    rejected: str
    kind: str = ""
    rejected_ended: bool = True


def pairs_of(row: Mapping[str, Any]) -> Iterator[Pair]:
    """The pair in a row.

    Raises:
        ValueError: the row is in no known form, or there is nothing to prefer in it.
    """
    if "chosen" not in row or "rejected" not in row:
        there = ", ".join(map(str, row)) or "none"
        raise ValueError(f"columns in no known form (there are: {there}; known: {FORMS})")
    chosen, rejected = (_answered(row, side) for side in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise ValueError("chosen and rejected answer different prompts")
    if chosen[-1] == rejected[-1]:
        raise ValueError("chosen and rejected are the same")
    ended = row.get("rejected_ended", True)
    if not isinstance(ended, bool):
        raise ValueError(f"rejected_ended holds {ended!r}, not true or false")
    yield Pair(chosen[:-1], chosen[-1]["content"], rejected[-1]["content"], rejected_ended=ended)


def _answered(row: Mapping[str, Any], side: str) -> Messages:
    """The whole conversation of one side, checked."""
    try:
        return checked(conversation(row, side))
    except ValueError as error:
        raise ValueError(f"{side}: {error}") from None


def conversation(row: Mapping[str, Any], side: str) -> list[Any]:
    """The prompt of a row with the answer in column `side`, not checked.

    Raises:
        ValueError: there is no prompt, or the answer's column begins with another one.
    """
    asked, answer = asked_in(row), row[side]
    if isinstance(answer, Mapping):
        answer = [answer]
    if isinstance(asked, str) and isinstance(answer, str) and is_open_transcript(asked):
        return transcript(asked + answer)
    if asked is None and isinstance(answer, str):
        return transcript(answer)
    messages = said("assistant", answer)
    if asked is None:
        return messages
    before = _system(row) + said("user", asked)
    if not whole(messages):
        return before + messages
    if not _ends_with(messages[:-1], before):
        raise ValueError("begins with another prompt than the prompt's column")
    return messages


def asked_in(row: Mapping[str, Any]) -> Any:
    """The prompt's column, as it is; None where there is none."""
    asked = question_of(row)
    if asked is None:
        asked = row.get("question", row.get("conversations"))
    return asked


def _system(row: Mapping[str, Any]) -> list[Any]:
    return said("system", row["system"]) if row.get("system") else []


def whole(messages: list[Any]) -> bool:
    """Whether messages are a conversation, not only the answer at its end."""
    return any(isinstance(m, Mapping) and m.get("role") == "user" for m in messages)


def _ends_with(messages: list[Any], prompt: list[Any]) -> bool:
    """Whether the last words are the prompt's: UltraFeedback says each prompt twice."""
    last = [[str(m.get("content")).strip() for m in part[-1:]] for part in (messages, prompt)]
    return last[0] == last[1]


def is_open_transcript(text: str) -> bool:
    """Whether a prompt is a transcript up to where the assistant would speak."""
    turns = list(TURN.finditer(text))
    return bool(turns) and turns[-1][1] == "Assistant" and not text[turns[-1].end() :].strip()


def transcript(text: str) -> list[dict[str, str]]:
    """`"\\n\\nHuman: Hi\\n\\nAssistant: Hello"` as messages.

    Raises:
        ValueError: it does not begin with a speaker.
    """
    turns = list(TURN.finditer(text))
    if not turns or text[: turns[0].start()].strip():
        raise ValueError("is text without roles: no prompt's column, no Human and Assistant in it")
    ends = [turn.start() for turn in turns[1:]] + [len(text)]
    return [
        {"role": SPEAKERS[turn[1]], "content": text[turn.end() : end].strip()}
        for turn, end in zip(turns, ends, strict=True)
    ]
