"""What was set aside unread: broken files and records, counted by reason, the first ones named.

Hostile or broken web data must not stop a run, and must not vanish either. Two kinds of leaving
out: `set_aside`, a fault (a truncated archive, a page that is no text), and `pass_over`, what is
whole but not wanted (a WARC's requests, its images).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

NAMED = 100  # set-aside things that the record names; the others are only counted


@dataclass
class Quarantine:
    """Counts by reason. Every reason is a name of one style (`truncated`, `not_html`).

    Attributes:
        counts: reason -> set-aside files and records.
        named: the first of them: `{"where", "reason", "detail"}`.
        passed_over: reason -> records that were not wanted.
    """

    counts: Counter[str] = field(default_factory=Counter)
    named: list[dict[str, str]] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)

    def set_aside(self, where: str, reason: str, detail: str = "") -> None:
        """Note a broken thing. `where` is free of machine-bound folders (`a.warc.gz:<urn:...>`)."""
        self.counts[reason] += 1
        if len(self.named) < NAMED:
            self.named.append({"where": where, "reason": reason, "detail": detail})

    def pass_over(self, reason: str) -> None:
        """Note an unwanted thing."""
        self.passed_over[reason] += 1

    def add(self, other: Quarantine) -> None:
        """Take over what a later part of the input noted."""
        self.counts.update(other.counts)
        self.named += other.named[: NAMED - len(self.named)]
        self.passed_over.update(other.passed_over)

    def report(self) -> dict[str, Any]:
        """The record for stats.json: reasons sorted, so that equal input gives equal bytes."""
        return {
            "set_aside": dict(sorted(self.counts.items())),
            "first": self.named,
            "passed_over": dict(sorted(self.passed_over.items())),
        }
