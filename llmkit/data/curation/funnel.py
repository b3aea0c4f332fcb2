"""The funnel: how many documents, characters and tokens went into each step, came out, and why not.

Tokens are estimated (`llmkit/data/tokens/token_estimate.py`).

Where a source labels its documents with the truth (`keep`, and the kind of `junk`), the funnel also
says how right the steps were: with J the junk that a step (or all of them) was shown and R what it
removed,

    precision = |R and J| / |R|        recall = |R and J| / |J|
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from llmkit.data.documents import Document
from llmkit.data.tokens.token_estimate import estimated_tokens

# What is counted, where (a source's or step's place in the recipe), and under which label.
Key = tuple[str, int, str]
Amount = dict[str, int]  # documents, characters and tokens
GOOD = "good"


def truth_of(document: Document) -> str | None:
    """`good`, or the kind of junk, or None where the source does not know."""
    keep = document.metadata.get("keep")
    if keep is None:
        return None
    return GOOD if keep else str(document.metadata.get("junk") or "junk")


class Funnel:
    """Counts of documents, characters and tokens, which add up over blocks.

    What comes in, is kept, removed or changed is counted; what each step is shown follows.
    """

    def __init__(self) -> None:
        self.documents: Counter[Key] = Counter()
        self.characters: Counter[Key] = Counter()
        self.tokens: Counter[Key] = Counter()

    def count(self, what: str, where: int, label: str, document: Document) -> None:
        key = (what, where, label)
        self.documents[key] += 1
        self.characters[key] += len(document.text)
        self.tokens[key] += estimated_tokens(document.text)

    def count_truth(self, what: str, where: int, document: Document) -> None:
        """Count under the document's true label, if it has one."""
        label = truth_of(document)
        if label is not None:
            self.documents[(what, where, label)] += 1

    def change(self, place: int, document: Document, pieces: Sequence[Document]) -> None:
        """Count what a step made of a document: itself edited, or several."""
        key = ("changed", place, "")
        self.documents[key] += 1
        self.characters[key] += sum(len(piece.text) for piece in pieces) - len(document.text)
        became = sum(estimated_tokens(piece.text) for piece in pieces)
        self.tokens[key] += became - estimated_tokens(document.text)
        self.documents[("added", place, "")] += len(pieces) - 1
        if (label := truth_of(document)) is not None:
            self.documents[("truth added", place, label)] += len(pieces) - 1

    def add(self, other: Funnel) -> None:
        self.documents.update(other.documents)
        self.characters.update(other.characters)
        self.tokens.update(other.tokens)

    def to_rows(self) -> list[list[Any]]:
        """JSON-able; `from_rows` is the inverse."""
        return [
            [*key, number, self.characters[key], self.tokens[key]]
            for key, number in self.documents.items()
        ]

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[Any]]) -> Funnel:
        funnel = cls()
        for what, where, label, documents, characters, tokens in rows:
            funnel.documents[(what, where, label)] = documents
            funnel.characters[(what, where, label)] = characters
            funnel.tokens[(what, where, label)] = tokens
        return funnel

    def at(self, what: str, where: int | None = None, label: str | None = None) -> Amount:
        """The sum over all keys that fit."""
        keys = [
            key
            for key in self.documents
            if key[0] == what and where in (None, key[1]) and label in (None, key[2])
        ]
        return {
            "documents": sum(self.documents[key] for key in keys),
            "characters": sum(self.characters[key] for key in keys),
            "tokens": sum(self.tokens[key] for key in keys),
        }

    def removed(self, where: int | None = None) -> dict[str, Amount]:
        """Reason -> how much went, the most frequent first; by one step or by all."""
        found = {k[2] for k in self.documents if k[0] == "removed" and where in (None, k[1])}
        amounts = {reason: self.at("removed", where, reason) for reason in sorted(found)}
        return dict(sorted(amounts.items(), key=lambda item: -item[1]["documents"]))

    def report(self, sources: Sequence[str], steps: Sequence[str]) -> dict[str, Any]:
        """All of `stats.json` but the bad rows."""
        report: dict[str, Any] = {
            "in": self.at("in"),
            "kept": self.at("kept"),
            "sources": [
                {"source": name, "in": self.at("in", i), "kept": self.at("kept", i)}
                for i, name in enumerate(sources)
            ],
            "steps": list(self._steps(steps)),
        }
        truth = self.truth(steps)
        return report | ({"truth": truth} if truth else {})

    def _steps(self, steps: Sequence[str]) -> Iterator[dict[str, Any]]:
        """What each step was shown, removed and passed on, in order."""
        shown = self.at("in")
        for place, name in enumerate(steps):
            removed, changed = self.at("removed", place), self.at("changed", place)
            added = {**changed, "documents": self.at("added", place)["documents"]}
            passed = {unit: shown[unit] - removed[unit] + added[unit] for unit in shown}
            yield {
                "step": name,
                "in": shown,
                "out": passed,
                "changed": changed["documents"],
                "removed": self.removed(place),
            }
            shown = passed

    def truth(self, steps: Sequence[str]) -> dict[str, Any]:
        """Precision and recall of the steps, each and together; empty without true labels."""
        shown = self._labels("truth")
        if not shown:
            return {}
        left, removed = Counter(shown), Counter[str]()
        by_step = {}
        for place, name in enumerate(steps):
            here = self._labels("truth removed", place)
            by_step[name] = rates(here, left)
            removed.update(here)
            left.subtract(here)
            left.update(self._labels("truth added", place))
        kinds = {
            kind: {"documents": shown[kind], "removed": removed[kind]} for kind in sorted(shown)
        }
        return {"all": rates(removed, removed + left), "steps": by_step, "kinds": kinds}

    def _labels(self, what: str, where: int | None = None) -> Counter[str]:
        labels: Counter[str] = Counter()
        for key, number in self.documents.items():
            if key[0] == what and where in (None, key[1]):
                labels[key[2]] += number
        return labels


def rates(removed: Counter[str], shown: Counter[str]) -> dict[str, float | int | None]:
    """Precision and recall in 0..1, `None` where nothing was removed or no junk was shown."""
    hits = removed.total() - removed[GOOD]
    junk = shown.total() - shown[GOOD]
    return {
        "removed": removed.total(),
        "junk": junk,
        "precision": hits / removed.total() if removed.total() else None,
        "recall": hits / junk if junk else None,
    }
