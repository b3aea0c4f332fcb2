"""Rows of a conversation data set to messages, whatever their columns; what is wrong, in words.

The forms, told apart by their columns:

    messages                          TRL, https://huggingface.co/docs/trl/dataset_formats
    conversations                     ShareGPT: [{"from": "human" | "gpt" | "system", "value"}]
    prompt + completion | response    a string, or a list of messages, each
    instruction (+ input | context) + output | response
                                      Alpaca, https://github.com/tatsu-lab/stanford_alpaca ; Dolly
    prompt with replies               OpenAssistant trees, https://arxiv.org/abs/2304.07327
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from llmkit.data.sources.readers import BadRows, json_rows
from llmkit.errors import InputError

T = TypeVar("T")

Messages = list[dict[str, str]]  # [{"role": "system" | "user" | "assistant", "content": ...}]

FILES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".parquet")
FORMS = (
    "messages; conversations; prompt with completion or response; instruction with output or "
    "response; an OpenAssistant tree (prompt with replies)"
)
ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}


def read_file(file: Path, bad_rows: BadRows) -> Iterator[Messages]:
    """The conversations of one JSON Lines or Parquet file.

    Raises:
        InputError: it is missing or broken, or more rows are bad than allowed.
    """
    yield from read(file_rows(file), f"{file}:", file.name, bad_rows, conversations_of)


def file_rows(file: Path) -> Iterator[tuple[int, Any]]:
    """The numbered rows of a JSON Lines or Parquet file; a string is the reason why one is bad."""
    return parquet_rows(file) if file.suffix == ".parquet" else json_rows(file)


def parquet_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows from 1 of a Parquet file, all columns. Raises InputError if it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        batches = pq.ParquetFile(file).iter_batches(1000)
        yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
    except (OSError, pa.ArrowException) as error:
        what = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(str(file), f"cannot be read: {what}", "download it again") from error


def read(
    rows: Iterable[tuple[int, Any]],
    where: str,
    name: str,
    bad_rows: BadRows,
    made_of: Callable[[Mapping[str, Any]], Iterable[T]],
) -> Iterator[T]:
    """What `made_of` makes of numbered rows; where it raises ValueError, the row is a bad one."""
    for number, row in rows:
        try:
            if isinstance(row, str):
                raise ValueError(row)
            made = list(made_of(row))
        except ValueError as error:
            bad_rows.add(f"{where}{number}", f"{name}:{number}", str(error))
            continue
        yield from made


def conversations_of(row: Mapping[str, Any], language: str = "en") -> Iterator[Messages]:
    """The conversations in a row: one, or for a tree one for each of its best threads.

    A tree of another `language` (or whose first words are deleted or written by a model) has none.

    Raises:
        ValueError: the row is in no known form, or what it holds cannot be trained on.
    """
    if isinstance(row.get("prompt"), Mapping):
        for thread in threads(row["prompt"], language):
            yield checked(thread)
    else:
        yield checked(_messages(row))


def _messages(row: Mapping[str, Any]) -> list[Any]:
    for column in ("messages", "conversations"):
        if column in row:
            return said("user", listed(row[column], column))
    asked = question_of(row)
    answer = next((row[key] for key in ("completion", "response", "output") if key in row), None)
    if asked is not None and answer is not None:
        return said("user", asked) + said("assistant", answer)
    there = ", ".join(map(str, row)) or "none"
    raise ValueError(f"columns in no known form (there are: {there}; known: {FORMS})")


def question_of(row: Mapping[str, Any]) -> Any:
    """What the columns of a row ask (text, or messages); None where they ask nothing."""
    if "prompt" in row or "instruction" not in row:
        return row.get("prompt")
    more = row.get("input") or row.get("context")
    return f"{row['instruction']}\n\n{more}" if more else row["instruction"]


def listed(value: Any, column: str) -> list[Any]:
    """The list in a column. Raises ValueError where it holds something else."""
    if not isinstance(value, list):
        raise ValueError(f"{column!r} holds {type(value).__name__}, not a list of messages")
    return value


def said(role: str, content: Any) -> list[Any]:
    """A column as messages: text is one message of `role`; ShareGPT's words become TRL's."""
    if not isinstance(content, list):
        return [{"role": role, "content": content}]
    return [
        {"role": turn.get("from"), "content": turn.get("value")}
        if isinstance(turn, Mapping) and "from" in turn
        else turn
        for turn in content
    ]


def checked(messages: list[Any], answered: bool = True) -> Messages:
    """The messages with nothing but role and content, if they can be trained on.

    An optional system message, then user and assistant by turns; with `answered`, the assistant
    has the last word, else the user.

    Raises:
        ValueError: saying which message (counted from 1) is wrong, and how.
    """
    if not messages:
        raise ValueError("holds no messages")
    clean = [_checked_message(message, number) for number, message in enumerate(messages, start=1)]
    turns = clean[1:] if clean[0]["role"] == "system" else clean
    offset = len(clean) - len(turns)
    for index, message in enumerate(turns):
        wanted = ("user", "assistant")[index % 2]
        if message["role"] != wanted:
            raise ValueError(
                f"message {index + offset + 1} is the {message['role']}'s, where the {wanted}'s "
                "must come"
            )
    last = clean[-1]["role"]
    if answered and last != "assistant":
        raise ValueError(f"ends with the {last}'s message, so there is no answer to learn")
    if not answered and last != "user":
        raise ValueError(f"ends with the {last}'s message, so nothing is asked")
    return clean


def _checked_message(message: Any, number: int) -> dict[str, str]:
    if not isinstance(message, Mapping):
        raise ValueError(f"message {number} is {type(message).__name__}, not an object")
    if "role" not in message or "content" not in message:
        there = ", ".join(map(str, message)) or "nothing"
        raise ValueError(f"message {number} has no role or no content (it has: {there})")
    role, content = message["role"], message["content"]
    if not isinstance(role, str) or role not in ROLES:
        raise ValueError(f"message {number} has role {role!r}; known are {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise ValueError(f"message {number} holds {type(content).__name__}, not text")
    if not content.strip():
        raise ValueError(f"message {number}, the {ROLES[role]}'s, is empty")
    try:
        content.encode()
    except UnicodeEncodeError:  # JSON may escape half a surrogate pair, which no file can hold
        raise ValueError(f"message {number} holds a lone surrogate, no character") from None
    return {"role": ROLES[role], "content": content}


def threads(root: Mapping[str, Any], language: str) -> Iterator[list[Any]]:
    """From a tree's root to its leaves, by the best-ranked human answer to every question.

    Each thread ends with an answer; one that another thread goes on from is not given by itself.
    """
    if _usable(root, language):
        yield from _below(root, [], language)


def _below(question: Mapping[str, Any], before: list[Any], language: str) -> Iterator[list[Any]]:
    answers = [node for node in question.get("replies") or [] if _usable(node, language)]
    if not answers:
        if before:
            yield before
        return
    # Unranked answers (those with too few votes) come after all ranked ones, in the file's order.
    best = min(answers, key=lambda node: (node.get("rank") is None, node.get("rank") or 0))
    so_far = [
        *before,
        {"role": "user", "content": question.get("text")},
        {"role": "assistant", "content": best.get("text")},
    ]
    follow_ups = [node for node in best.get("replies") or [] if _usable(node, language)]
    longer = [thread for node in follow_ups for thread in _below(node, so_far, language)]
    seen = [thread for thread in longer if len(thread) > len(so_far)]
    yield from seen or [so_far]


def _usable(node: Any, language: str) -> bool:
    """Written by a person, in the language, neither deleted nor turned down by the reviewers."""
    return (
        isinstance(node, Mapping)
        and not node.get("deleted")
        and not node.get("synthetic")
        and node.get("lang", language) == language
        and node.get("review_result") is not False
    )
