"""The tokenizer's part of the page: text cut into tokens, and compression beside others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmkit.report.samples import LONGEST

COLOURS = 4  # of neighbouring tokens, in turn
LINE_END = "⏎"  # shown before the break, which would be nothing to see


def tokenizer_section(compression: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of a tokenize stage's `logs/compression.json`; empty lists where none.

    `{names, rows: [{domain, cells}], left_out, pictures: [{domain, tokens}]}`; a token is
    `{text, id, colour}`, a cell `{value, tokens_per_word, best}`; best has no other above it.
    """
    rows = compression.get("domains") or []
    names = list(rows[0]["bytes_per_token"]) if rows else []
    return {
        "names": names,
        "rows": [{"domain": row["domain"], "cells": cells(row, names)} for row in rows],
        "left_out": compression.get("left_out") or [],
        "pictures": [
            {"domain": picture["domain"], "tokens": coloured(picture["tokens"])}
            for picture in compression.get("picture") or []
        ],
    }


def cells(row: Mapping[str, Any], names: list[str]) -> list[dict[str, Any]]:
    """A domain's figures under each tokenizer."""
    values = row["bytes_per_token"]
    highest = max(values.values(), default=0)
    return [
        {
            "value": f"{values[name]:.2f}",
            "tokens_per_word": f"{row['tokens_per_word'][name]:.2f}",
            "best": len(names) > 1 and values[name] == highest,
        }
        for name in names
    ]


def coloured(tokens: list[list[Any]]) -> list[dict[str, Any]]:
    """Tokens with the colour of each, as long as a sample may be."""
    shown, length = [], 0
    for number, (text, token_id) in enumerate(tokens):
        length += len(text)
        if length > LONGEST:
            break
        seen = str(text).replace("\r", "␍").replace("\n", LINE_END + "\n")
        shown.append({"text": seen, "id": token_id, "colour": number % COLOURS})
    return shown
