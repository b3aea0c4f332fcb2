"""How a tokenizer compresses kinds of text, beside GPT-2's and GPT-4's, and a picture of its cuts.

The kinds are the run's own documents, by their `dump` or language, and the short texts of `probes/`
(prose, code, mathematics, other languages), which no training has seen. GPT-2 and GPT-4 take part
where tiktoken's cache has their ranks (`llmkit.data.tokens.tiktoken_ranks`); nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit.data.documents import Document, sample_documents
from llmkit.data.tokens import bpe, tiktoken_ranks
from llmkit.data.tokens.shard_files import write_json
from llmkit.stage import Context, log

if TYPE_CHECKING:
    from tokenizers import Tokenizer

COMPRESSION = "compression.json"
SAMPLE_BYTES = 300_000  # of documents
PROBES = Path(__file__).parent / "probes"
OWN = "own"  # how the table calls the tokenizer that it is about
REFERENCES = ("gpt2", "cl100k_base")
MOST_DOMAINS = 8  # of the documents
PICTURED = 700  # characters of each text in the picture


def compare(context: Context, encoder: Tokenizer, folder: Path | None) -> dict[str, float]:
    """Compression of the documents in `folder` and of the probes: flat figures for `stage.json`.

    Tables and the picture go to `logs/compression.json`, since they depend on what is in a cache.
    """
    domains = by_domain(sample_documents(folder, SAMPLE_BYTES) if folder is not None else ())
    others, left_out = references()
    for line in left_out:
        log.info("%s: %s", context.name, line)
    rows = compared(encoder, domains, others)
    table = {"domains": rows, "left_out": left_out, "picture": picture(encoder, domains)}
    write_json(context.logs / COMPRESSION, table)
    return figures(rows)


def by_domain(documents: Iterable[Document]) -> dict[str, list[str]]:
    """Texts of the most frequent domains of the documents, then the probes; domain -> texts."""
    groups: dict[str, list[str]] = {}
    for document in documents:
        known = document.metadata
        domain = str(known.get("dump") or known.get("language") or "documents")
        groups.setdefault(domain, []).append(document.text)
    largest = sorted(groups, key=lambda domain: -len(groups[domain]))[:MOST_DOMAINS]
    probes = {
        f"probe: {file.stem}": [file.read_text(encoding="utf-8")]
        for file in sorted(PROBES.glob("*.txt"))
    }
    return {domain: groups[domain] for domain in largest} | probes


def references() -> tuple[dict[str, dict[bytes, int]], list[str]]:
    """The ranks to compare with, by name, and a line on each that is not on this machine."""
    found, left_out = {}, []
    for name in REFERENCES:
        file = tiktoken_ranks.cached_file(name)
        if file is None:
            left_out.append(
                f"{name} is left out: {tiktoken_ranks.PUBLISHED[name].file} is not in tiktoken's "
                f"cache ({' or '.join(tiktoken_ranks.CACHE_VARIABLES)})"
            )
            continue
        found[name] = tiktoken_ranks.read_ranks(file)
    return found, left_out


def compared(
    encoder: Tokenizer,
    domains: Mapping[str, Sequence[str]],
    others: Mapping[str, Mapping[bytes, int]],
) -> list[dict[str, Any]]:
    """A row a domain: its texts' UTF-8 bytes, and for each tokenizer bytes and words per token.

    `{domain, bytes, words, bytes_per_token: {own: 3.9, gpt2: 4.1}, tokens_per_word: {...}}`

    Args:
        others: names of published encodings with their ranks.
    """
    patterns = {name: bpe.split_pattern(tiktoken_ranks.PUBLISHED[name].pattern) for name in others}
    rows = []
    for domain, texts in domains.items():
        size = sum(len(text.encode()) for text in texts)
        words = sum(len(text.split()) for text in texts)
        encodings = encoder.encode_batch_fast(list(texts), add_special_tokens=False)
        tokens = {OWN: sum(len(encoding.ids) for encoding in encodings)} | {
            name: tiktoken_ranks.count_tokens(texts, ranks, patterns[name])
            for name, ranks in others.items()
        }
        rows.append(
            {
                "domain": domain,
                "bytes": size,
                "words": words,
                "bytes_per_token": {n: round(size / max(t, 1), 4) for n, t in tokens.items()},
                "tokens_per_word": {n: round(t / max(words, 1), 4) for n, t in tokens.items()},
            }
        )
    return rows


def figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The rows flat: `bytes_per_token/<domain>`, and `.../<reference>` behind it."""
    return {
        f"bytes_per_token/{row['domain']}" + ("" if name == OWN else f"/{name}"): value
        for row in rows
        for name, value in row["bytes_per_token"].items()
    }


def picture(encoder: Tokenizer, domains: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """The beginning of each domain's first text, cut: `{domain, tokens: [[says, id], ...]}`.

    A token that holds a part of a character alone is told by its bytes, as `\\xe6\\xb8`.
    """
    spelled = tiktoken_ranks.tokens_of(encoder)
    cut = []
    for domain, texts in domains.items():
        ids = encoder.encode(texts[0][:PICTURED], add_special_tokens=False).ids
        cut.append({"domain": domain, "tokens": [[readable(spelled[i]), i] for i in ids]})
    return cut


def readable(token: bytes) -> str:
    return token.decode("utf-8", errors="backslashreplace")
