"""Which kind of file a name means; where a name means nothing, which kind its first bytes show."""

from __future__ import annotations

import re
from pathlib import Path

from llmkit.data.sources.guarded import Damaged, packing_of, unpacked

PACKINGS = (".gz", ".zst")
SUFFIXES = {
    ".jsonl": "json",
    ".json": "json",
    ".ndjson": "json",
    ".txt": "text",
    ".warc": "warc",
    ".arc": "warc",
    ".wet": "warc",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
}
READABLE = (*(end + packed for end in SUFFIXES for packed in ("", *PACKINGS)), ".parquet")
SHOWS = (
    (re.compile(rb"PAR1"), "parquet"),
    (re.compile(rb"\s*WARC/\d|filedesc:"), "warc"),
    (
        re.compile(rb"\s*(?:<\?xml[^>]*>)?\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.I),
        "html",
    ),
)


def kind_of(file: Path) -> str | None:
    """`json`, `text`, `parquet`, `warc` (ARC and WET too) or `html`; None of any other."""
    if file.name.endswith(".parquet"):
        return "parquet"
    for packed in PACKINGS:
        bare = file.name.removesuffix(packed)
        if bare != file.name:
            break
    return SUFFIXES.get(Path(bare).suffix) or _shown(file)


def packing_by_name(file: Path) -> str:
    """`gz`, `zst` or nothing."""
    return file.suffix[1:] if file.suffix in PACKINGS else ""


def _shown(file: Path) -> str | None:
    try:
        with file.open("rb") as packed:
            head = unpacked(packed, packing_of(file), str(file)).read(512)
    except Damaged:
        return None
    return next((kind for pattern, kind in SHOWS if pattern.match(head or b"")), None)
