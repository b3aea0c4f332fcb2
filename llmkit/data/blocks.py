"""Curation in blocks that survive a kill: every block's files, then its state, renamed into place.

A block is a fixed stretch of the input, so that the same input gives the same files whether or not
the work was stopped. `documents/NNNNN.parquet` and `removed/NNNNN.parquet` come first; the state
(counts, what the steps remember, digests of both files) last. A block counts only if its state
is there and the digests hold; at the first one that does not, work goes on. A block of which
nothing is kept (or removed) leaves no such file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from llmkit.data.documents import Document, write_documents, write_rows
from llmkit.data.filters import Dropped, Step
from llmkit.data.funnel import Funnel

REMOVED_COLUMNS = {
    "id": "string",
    "text": "string",
    "reason": "string",
    "figure": "float64",
    "detail": "string",
    "step": "string",
    "source": "string",
    "characters": "int64",
}
REMOVED_TEXT = 2000  # characters of a removed text that are kept for people to look at
BLOCK_CHARACTERS = 64 << 20  # a block of long documents ends early, so that it fits in memory
READ = "read"  # the step that a blank text does not survive


class Blocks:
    """Sends documents through the steps and commits what comes out, block by block.

    Attributes:
        consumed: input documents in committed blocks.
        funnel: counts of the committed blocks.
    """

    def __init__(
        self, out: Path, scratch: Path, sources: Sequence[str], steps: Sequence[Step], size: int
    ) -> None:
        self.out, self.state_folder = out, scratch / "blocks"
        self.sources, self.steps, self.size = sources, steps, size
        self.names = [READ, *numbered([step.name for step in steps])]
        self.memories: list[dict[str, str]] = [{} for _ in steps]
        self.funnel = Funnel()
        self.consumed = self.index = 0
        self._begin()

    def _begin(self) -> None:
        self.block = Funnel()
        self.kept: list[Document] = []
        self.removed: list[dict[str, Any]] = []
        self.fed = self.characters = 0
        self.remembered = [len(memory) for memory in self.memories]

    def resume(self) -> None:
        """Take up the committed blocks of an earlier try, and remove what follows them."""
        while (state := self._state(self.index)) is not None:
            self.funnel.add(Funnel.from_rows(state["counts"]))
            for memory, news in zip(self.memories, state["memories"], strict=True):
                memory.update(news)
            self.consumed += state["fed"]
            self.index += 1
        self._remove_from(self.index)
        self._begin()

    def _state(self, index: int) -> dict[str, Any] | None:
        path = self.state_folder / f"{index:05d}.json"
        if not path.is_file():
            return None
        state: dict[str, Any] = json.loads(path.read_bytes())
        found = {file.parent.name: digest_of(file) for file in self._files(index)}
        return state if state["digests"] == found else None

    def _files(self, index: int) -> list[Path]:
        names = [self.out / kind / f"{index:05d}.parquet" for kind in ("documents", "removed")]
        return [file for file in names if file.is_file()]

    def _remove_from(self, index: int) -> None:
        """Remove what belongs to no committed block: later files, and half-written ones."""
        for folder in (self.out / "documents", self.out / "removed", self.state_folder):
            for file in folder.glob("*"):
                if file.name >= f"{index:05d}" or file.name.startswith("."):
                    file.unlink()

    def feed(self, document: Document, source: int) -> None:
        """Send one input document through the steps; a full block is committed."""
        self.fed += 1
        self.characters += len(document.text)
        self.block.count("in", source, "", document)
        self.block.count_truth("truth", source, document)
        if document.text.strip():
            self._send(document, source, 0)
        else:
            self._remove(document, source, 0, Dropped("blank_text", 0))
        if self.fed >= self.size or self.characters >= BLOCK_CHARACTERS:
            self.commit()

    def _send(self, document: Document, source: int, first: int) -> None:
        """Through the steps from `first` on. Place 0 of the counts is reading, n + 1 step n."""
        for number in range(first, len(self.steps)):
            outcome = self.steps[number].apply(document, self.memories[number])
            if outcome is document:
                continue
            if isinstance(outcome, Dropped):
                return self._remove(document, source, number + 1, outcome)
            if isinstance(outcome, list):
                self.block.change(number + 1, document, outcome)
                for piece in outcome:
                    self._send(piece, source, number + 1)
                return None
            self.block.change(number + 1, document, [outcome])
            document = outcome
        self.block.count("kept", source, "", document)
        self.kept.append(document)
        return None

    def _remove(self, document: Document, source: int, place: int, dropped: Dropped) -> None:
        self.block.count("removed", place, dropped.reason, document)
        self.block.count_truth("truth removed", place, document)
        self.removed.append(
            {
                "id": document.id,
                "text": document.text[:REMOVED_TEXT],
                "reason": dropped.reason,
                "figure": float(dropped.figure),
                "detail": dropped.detail or None,
                "step": self.names[place],
                "source": self.sources[source],
                "characters": len(document.text),
            }
        )

    def commit(self) -> None:
        """Make the block permanent. Nothing of it counts before the last line of this."""
        if not self.fed:
            return
        name = f"{self.index:05d}"
        if self.kept:  # load_dataset("parquet") cannot read a file without rows
            write_documents(self.out / "documents" / f"{name}.parquet", self.kept)
        if self.removed:
            write_rows(self.out / "removed" / f"{name}.parquet", self.removed, REMOVED_COLUMNS)
        pairs = zip(self.memories, self.remembered, strict=True)
        state = {
            "fed": self.fed,
            "counts": self.block.to_rows(),
            "memories": [dict(islice(memory.items(), old, None)) for memory, old in pairs],
            "digests": {file.parent.name: digest_of(file) for file in self._files(self.index)},
        }
        self.state_folder.mkdir(parents=True, exist_ok=True)
        partial = self.state_folder / f".{name}.partial"
        partial.write_text(json.dumps(state))
        os.replace(partial, self.state_folder / f"{name}.json")
        self.funnel.add(self.block)
        self.consumed += self.fed
        self.index += 1
        self._begin()


def numbered(names: Sequence[str]) -> list[str]:
    """`["split", "pii", "split"]` -> `["split", "pii", "split (2)"]`."""
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def digest_of(file: Path) -> str:
    """SHA-256 of the file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
