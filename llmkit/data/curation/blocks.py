"""Curation in blocks that survive a kill: every block's files, then its state, renamed into place.

A block is a fixed stretch of the input, so that the same input gives the same files whether or not
the work was stopped, and whoever worked on it. Its files come first; its state (counts, samples,
digests of the files) last. A block counts only if its state is there and the digests hold. Blocks
are committed in any order.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.data.curation.filters import Dropped, Step
from llmkit.data.curation.funnel import Funnel
from llmkit.data.curation.removed import Row, Samples
from llmkit.data.documents import Document
from llmkit.run_dir import sha256_of

READ = "read"  # the step that a blank text does not survive
BLOCK_FILE = re.compile(r"\d{5,}\.(?!json$).*|\..*\.partial")  # a whole one or a begun one
BLOCK_CHARACTERS = 64 << 20  # a block of long documents ends early, so that it fits in memory


class Block:
    """What becomes of the documents of one block in one phase.

    Place 0 of the counts is reading, n + 1 the recipe's step n.

    Args:
        steps: those of the phase, with their places.
        names: of all places.
        sources: their labels.

    Attributes:
        kept: (number of the source, document) that came through.
        removed: a row for each that did not.
    """

    def __init__(
        self,
        steps: Sequence[tuple[int, Step]],
        names: Sequence[str],
        sources: Sequence[str],
        samples: Samples,
    ) -> None:
        self.steps, self.names, self.sources = steps, names, sources
        self.samples = samples
        self.funnel = Funnel()
        self.kept: list[tuple[int, Document]] = []
        self.removed: list[Row] = []

    def read(self, document: Document, source: int) -> None:
        """Send one input document through the steps."""
        self.funnel.count("in", source, "", document)
        self.funnel.count_truth("truth", source, document)
        if document.text.strip():
            self.send(document, source)
        else:
            self.remove(document, source, 0, Dropped("blank_text", 0))

    def send(self, document: Document, source: int, first: int = 0) -> None:
        """Through the steps from the `first` one of the phase on."""
        for number in range(first, len(self.steps)):
            place, step = self.steps[number]
            outcome = step.apply(document)
            if outcome is document:
                continue
            if isinstance(outcome, Dropped):
                return self.remove(document, source, place, outcome)
            if isinstance(outcome, list):
                self.funnel.change(place, document, outcome)
                for piece in outcome:
                    self.send(piece, source, number + 1)
                return None
            self.funnel.change(place, document, [outcome])
            document = outcome
        self.kept.append((source, document))
        return None

    def remove(self, document: Document, source: int, place: int, dropped: Dropped) -> None:
        self.funnel.count("removed", place, dropped.reason, document)
        self.funnel.count_truth("truth removed", place, document)
        row = {
            "id": document.id,
            "reason": dropped.reason,
            "figure": float(dropped.figure),
            "detail": dropped.detail or None,
            "step": self.names[place],
            "source": self.sources[source],
            "characters": len(document.text),
        }
        self.removed.append(row)
        self.samples.offer(row, document.text)

    def count_kept(self) -> None:
        """In the last phase: what came through all steps."""
        for source, document in self.kept:
            self.funnel.count("kept", source, "", document)


@dataclass(frozen=True)
class Commits:
    """The states of a phase's committed blocks, in `folder`; their files lie below `top`."""

    folder: Path
    top: Path

    def path(self, index: int) -> Path:
        return self.folder / f"{index:05d}.json"

    def commit(self, index: int, files: Sequence[Path], state: dict[str, Any]) -> None:
        """Make a block permanent. Nothing of it counts before the last line of this."""
        names = {file.relative_to(self.top).as_posix(): sha256_of(file) for file in files}
        partial = self.folder / f".{index:05d}.json.partial"
        partial.write_text(json.dumps({**state, "files": names}))
        os.replace(partial, self.path(index))

    def state(self, index: int) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.path(index).read_bytes())
        return state

    def whole(self, tell: Callable[[int], None]) -> set[int]:
        """The committed blocks whose files are as they were written; the others' states go."""
        found = set()
        for path in sorted(self.folder.glob("[0-9]*.json")):
            if self._is_whole(path):
                found.add(int(path.stem))
            else:
                path.unlink()
            tell(1)
        return found

    def _is_whole(self, path: Path) -> bool:
        try:
            files = json.loads(path.read_bytes())["files"]
        except ValueError:  # the power went before the state was on the disk
            return False
        return all(
            (self.top / name).is_file() and sha256_of(self.top / name) == digest
            for name, digest in files.items()
        )

    def clean(self, indices: set[int], folders: Sequence[Path]) -> None:
        """Remove from `folders` the files that belong to no block in `indices`."""
        known = {name for index in indices for name in self.state(index)["files"]}
        for folder in folders:
            for file in folder.glob("*"):
                name = file.relative_to(self.top).as_posix()
                if BLOCK_FILE.fullmatch(file.name) and name not in known:
                    file.unlink()


def numbered(names: Sequence[str]) -> list[str]:
    """`["split", "pii", "split"]` -> `["split", "pii", "split (2)"]`."""
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique
