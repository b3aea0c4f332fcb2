"""The process in which pages are extracted, so that one can be killed: `python -m` this file.

Reads pages from standard input and answers on standard output, each as a length of 8 bytes and
UTF-8; an answer begins with one byte, `T` for text or `E` for the name of an error. A page that
takes more than its seconds of CPU time ends the process by SIGPROF, one that takes too much memory
fails alone. CPU time and not the clock: a busy machine must not change what is kept.
"""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Callable
from typing import BinaryIO

Extractor = Callable[[str], str | None]


def trafilatura() -> Extractor:
    """FineWeb's settings but for `deduplicate`, for with it a page's text hangs on those before it.

    https://github.com/adbar/trafilatura/issues/778
    """
    from trafilatura import extract

    return lambda html: extract(
        html, favor_precision=True, include_comments=False, deduplicate=False
    )


def resiliparse() -> Extractor:
    """The main content as plain text; DCLM's choice (https://arxiv.org/abs/2406.11794)."""
    from resiliparse.extract.html2text import extract_plain_text

    return lambda html: extract_plain_text(html, main_content=True, alt_texts=False, comments=False)


ENGINES: dict[str, Callable[[], Extractor]] = {
    "trafilatura": trafilatura,
    "resiliparse": resiliparse,
}


def serve(extract: Extractor, seconds: float, pages: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the input ends."""
    while len(head := pages.read(8)) == 8:
        html = pages.read(int.from_bytes(head, "little")).decode("utf-8", "replace")
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            answer = b"T" + (extract(html) or "").encode("utf-8", "replace")
        except Exception as error:  # whatever a page does to a parser is that page's fault alone
            answer = b"E" + type(error).__name__.encode()
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(len(answer).to_bytes(8, "little") + answer)
        answers.flush()


def main() -> None:
    """Arguments: engine, seconds a page, bytes of address space."""
    engine, seconds, memory = sys.argv[1:]
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing that a library prints may come between
    extract = ENGINES[engine]()
    extract("<html><body><p>The first page takes longest.</p></body></html>")
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    serve(extract, float(seconds), sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
