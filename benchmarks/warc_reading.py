"""Pages per second out of web archives: llmkit's reader beside warcio and bare fastwarc.

    python benchmarks/warc_reading.py FILE.warc.gz ... [--repeats 7] [--output FILE]

All three read every record and unpack the bodies of the HTML answers. llmkit also finds the
encoding and decodes, and checks lengths and damage as it goes; `fastwarc, decoded` and `warcio,
decoded` add the same decoding to the other two, so that like stands beside like. The ids and texts
of all pages are compared first. One thread; CPU time counts, as it tells variants apart on a shared
machine too; the variants take turns, and the median counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from machine import ForeignTime, write_result

HTML = ("text/html", "application/xhtml+xml")
Pages = dict[str, Any]  # record id -> text, or bytes where they are not decoded


def with_llmkit(file: Path) -> Pages:
    from llmkit.data.sources.quarantine import Quarantine
    from llmkit.data.sources.warc import warc_documents

    return {page.id: page.text for page in warc_documents(file, file.name, Quarantine())}


def with_warcio(file: Path, decode: bool) -> Pages:
    from warcio.archiveiterator import ArchiveIterator

    from llmkit.data.sources.pages import text_of

    found: Pages = {}
    with file.open("rb") as stream:
        for record in ArchiveIterator(stream):
            if record.rec_type != "response" or record.http_headers is None:
                continue
            kind = record.http_headers.get_header("Content-Type") or ""
            if not _wanted(kind, int(record.http_headers.get_statuscode() or 0)):
                continue
            content = record.content_stream().read()
            name = record.rec_headers.get_header("WARC-Record-ID")
            found[name] = text_of(content, _charset(kind)) if decode else content
    return found


def with_fastwarc(file: Path, decode: bool) -> Pages:
    from fastwarc.warc import ArchiveIterator

    from llmkit.data.sources.pages import text_of

    found: Pages = {}
    for record in ArchiveIterator(str(file), auto_decode="all", strict_mode=False):
        if str(record.record_type) != "response" or not record.is_http_parsed:
            continue
        kind = record.http_content_type or ""
        if not _wanted(kind, record.http_headers.status_code or 0):
            continue
        content = record.reader.read()
        found[record.record_id] = text_of(content, record.http_charset) if decode else content
    return found


def _wanted(kind: str, status: int) -> bool:
    return status < 300 and kind.partition(";")[0].strip().lower() in HTML


def _charset(kind: str) -> str | None:
    return kind.lower().partition("charset=")[2].partition(";")[0].strip() or None


VARIANTS: dict[str, Callable[[Path], Pages]] = {
    "fastwarc": lambda file: with_fastwarc(file, decode=False),
    "fastwarc, decoded": lambda file: with_fastwarc(file, decode=True),
    "warcio": lambda file: with_warcio(file, decode=False),
    "warcio, decoded": lambda file: with_warcio(file, decode=True),
    "llmkit": with_llmkit,
}


def check(file: Path) -> int:
    """The number of pages. Ends here where a page is missing or its text differs."""
    ours, theirs = with_llmkit(file), with_warcio(file, decode=True)
    bare = {name: text for name, text in with_fastwarc(file, decode=True).items() if text}
    for name, text in {**bare, **theirs}.items():
        plain = name.removeprefix("<").removesuffix(">")
        found = ours.get(name, ours.get(f"<{plain}>"))
        if text and found != text:
            raise SystemExit(f"{file.name}: {name}: llmkit's text differs: not timed")
    return len(ours)


def measure(file: Path, repeats: int) -> list[dict[str, Any]]:
    pages = check(file)
    taken: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(repeats):
        for name, read in VARIANTS.items():
            began = time.process_time()
            read(file)
            taken[name].append(time.process_time() - began)
    median = {name: statistics.median(times) for name, times in taken.items()}
    return [
        {
            "file": file.name,
            "packed_bytes": file.stat().st_size,
            "pages": pages,
            "variant": name,
            "pages_per_cpu_second": round(pages / seconds),
            "packed_mb_per_cpu_second": round(file.stat().st_size / seconds / 1e6, 2),
            "against_warcio_decoded": round(median["warcio, decoded"] / seconds, 2),
        }
        for name, seconds in median.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/warc_reading.json")
    chosen = parser.parse_args()
    watch = ForeignTime()
    rows = [row for file in chosen.files for row in measure(file, chosen.repeats)]
    for row in rows:
        print(
            f"{row['file']:20} {row['variant']:20} {row['pages_per_cpu_second']:6,} pages/s"
            f" {row['packed_mb_per_cpu_second']:6.2f} MB/s {row['against_warcio_decoded']:5.2f}"
        )
    libraries = {name: version(name) for name in ("fastwarc", "resiliparse", "warcio")}
    result = {"repeats": chosen.repeats, "libraries": libraries, "rows": rows}
    write_result("warc_reading", result, watch.share(), chosen.output)


if __name__ == "__main__":
    main()
