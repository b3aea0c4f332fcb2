"""HTML to text, in a child process that is killed when a page takes too long or too much memory.

FineWeb extracts with trafilatura, favouring precision, one second a page in a sandbox
(https://arxiv.org/abs/2406.17557, section 3.1; Barbaresi 2021,
https://aclanthology.org/2021.acl-demo.15). resiliparse (Bevendorff et al. 2018,
https://doi.org/10.1007/978-3-319-76941-7_83) is several times as fast and less precise.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

import llmkit
from llmkit.data.curation.filters import Dropped, Step
from llmkit.data.documents import Document
from llmkit.errors import LlmkitError, MissingExtraError

CHILD = "llmkit.data.curation.extraction_child"
HTML = ("text/html", "application/xhtml+xml")
PATIENCE = 30  # the clock's seconds for one of CPU time, before a child that does nothing is killed


@dataclass(frozen=True, kw_only=True)
class Extract(Step):
    """The main text of an HTML page; a document that is not marked as HTML passes unchanged."""

    name: ClassVar[str] = "extract"

    engine: Literal["trafilatura", "resiliparse"] = "trafilatura"
    timeout: float = 1.0  # seconds of CPU time a page
    max_memory_mb: int = 2048  # address space of the child

    def __post_init__(self) -> None:
        if self.timeout <= 0:
            raise ValueError(f"timeout: {self.timeout} is not positive")
        if self.max_memory_mb < 256:
            raise ValueError(f"max_memory_mb: {self.max_memory_mb} is less than 256")

    def libraries(self) -> tuple[str, ...]:
        return (self.engine,)

    def load(self) -> None:
        if find_spec(self.engine) is None:
            raise MissingExtraError(self.engine, "web", "the step `extract`")

    def apply(self, document: Document) -> Document | Dropped:
        if document.metadata.get("media_type") not in HTML:
            return document
        outcome = child_of(self).extract(document.text)
        if isinstance(outcome, Dropped):
            return outcome
        if not outcome.strip():
            return Dropped("extraction_empty", 0)
        return Document(outcome, document.id, document.metadata | {"media_type": "text/plain"})


CHILDREN: dict[tuple[Extract, int], Child] = {}


def child_of(step: Extract) -> Child:
    """One child for each setting and process: after a fork, a worker starts its own."""
    key = (step, os.getpid())
    if key not in CHILDREN:
        step.load()
        CHILDREN[key] = Child(step)
    return CHILDREN[key]


@atexit.register
def close_children() -> None:
    """End the children of this process; a later page starts one again."""
    for (_, process), child in CHILDREN.items():
        if process == os.getpid():
            child.close()
    CHILDREN.clear()


class Child:
    """The running child, started again after it was killed."""

    def __init__(self, step: Extract) -> None:
        self.step = step
        self.process: subprocess.Popen[bytes] | None = None

    def extract(self, html: str) -> str | Dropped:
        """The text of a page, or why there is none.

        Raises:
            LlmkitError: the child does not start.
        """
        self._start()
        page = html.encode("utf-8", "replace")
        answer = self._ask(len(page).to_bytes(8, "little") + page)
        if answer is None:
            return self._mourn()
        text = answer[1:].decode()
        if answer[:1] == b"T":
            return text
        name = "memory" if text == "MemoryError" else "error"
        return Dropped(f"extraction_{name}", 1, text)

    def _start(self) -> None:
        if self.process is not None:
            return
        step = self.step
        arguments = [step.engine, str(step.timeout), str(step.max_memory_mb << 20)]
        root = str(Path(llmkit.__file__ or "").parent.parent)
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-m", CHILD, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )
        if self._ask((0).to_bytes(8, "little"), started=True) is None:
            raise LlmkitError(f"extract: the child process for {step.engine} does not start")

    def _ask(self, request: bytes, started: bool = False) -> bytes | None:
        """The child's answer, or None when it died or had to be killed."""
        process = self.process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(request)
            process.stdin.flush()
        except BrokenPipeError:
            return None
        patience = PATIENCE * max(1.0, self.step.timeout) * (4 if started else 1)
        if not select.select([process.stdout], [], [], patience)[0]:
            process.kill()
            return None
        head = process.stdout.read(8)
        answer = process.stdout.read(int.from_bytes(head, "little"))
        return answer or None

    def _mourn(self) -> Dropped:
        """Bury the child, and say by which limit it died."""
        status = self.close()
        if status in (-signal.SIGPROF, -signal.SIGKILL):
            return Dropped("extraction_timeout", self.step.timeout)
        return Dropped("extraction_crash", status)

    def close(self) -> int:
        """End the child, if it is not dead already; its exit status."""
        process, self.process = self.process, None
        if process is None or process.stdin is None or process.stdout is None:
            return 0
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass  # what was not yet written is of no use
        process.stdout.close()
        return process.wait()
