"""The last number of a text: what counts in an answer that is worked out in words.

`so 72.` -> 72, `She has $1,200 left` -> 1200. That the last number is judged, whatever stands
before it, is how GSM8K (https://arxiv.org/abs/2110.14168) is commonly scored.
"""

from __future__ import annotations

import re
from decimal import Decimal

NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")


def last_number(text: str) -> Decimal | None:
    """The last number that stands in `text`, with or without commas between its thousands."""
    found = NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "")) if found else None


def right_digits(said: Decimal | None, wanted: str) -> float:
    """The share of digits that are right, aligned at the last one.

    Of 4 digits said and 3 wanted, 3 at most are right: `1172` for `172` -> 3 of 4.
    """
    written = "" if said is None else str(said)
    pairs = zip(reversed(written), reversed(wanted), strict=False)
    return sum(one == other for one, other in pairs) / max(len(written), len(wanted))
