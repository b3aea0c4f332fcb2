"""tiktoken's rank files: read, turned into a Hugging Face tokenizer, and written for one.

A rank file names every token's bytes and its id, one a line: base64, a space, a number
(https://github.com/openai/tiktoken/blob/main/tiktoken/load.py). tiktoken joins the neighbours whose
union has the lowest rank, leftmost first, until no union is a token; Hugging Face's BPE asks for
the pairs instead. Each token has but one pair: bytes evolve alike in every text in which no join
reaches over the token's ends, so the last two parts of a token that is encoded alone are the two
that ever meet. A piece that is a token as a whole is that token, which is `ignore_merges`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from llmkit.data.tokens.bpe import END_OF_TEXT, NUM_BYTES, byte_level
from llmkit.data.tokens.vocabulary import CL100K_SPECIALS
from llmkit.errors import InputError
from llmkit.run_dir import sha256_of, write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

STORE = "https://openaipublic.blob.core.windows.net/encodings/"
LONGEST_PIECE = 2000  # bytes that are joined at once: the time grows by their square
CACHE_VARIABLES = ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")  # tiktoken's own, in its order


@dataclass(frozen=True)
class Published:
    """An encoding of OpenAI's: its rank file, that file's SHA-256, its pattern and specials."""

    file: str
    sha256: str
    learned: int  # ranks in the file
    pattern: str
    specials: Mapping[str, int]


GPT2 = Published(
    "r50k_base.tiktoken",
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
    50_256,
    "gpt2",
    {END_OF_TEXT: 50_256},
)
PUBLISHED = {
    "gpt2": GPT2,
    "r50k_base": GPT2,
    "cl100k_base": Published(
        "cl100k_base.tiktoken",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        100_256,
        "gpt4",
        CL100K_SPECIALS,
    ),
    "o200k_base": Published(
        "o200k_base.tiktoken",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        199_998,
        "o200k",
        {END_OF_TEXT: 199_999, "<|endofprompt|>": 200_018},
    ),
}


def cached_file(name: str) -> Path | None:
    """Where tiktoken keeps the rank file of a published encoding on this machine, if it does."""
    known = PUBLISHED[name]
    folders = [os.environ[variable] for variable in CACHE_VARIABLES if os.environ.get(variable)]
    folder = Path(folders[0] if folders else Path(tempfile.gettempdir()) / "data-gym-cache")
    file = folder / hashlib.sha1((STORE + known.file).encode()).hexdigest()
    return file if file.is_file() and sha256_of(file) == known.sha256 else None


def published(name: str) -> Published | None:
    """The published encoding of that name, or whose rank file this is, told by its bytes."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    digest = sha256_of(Path(name)) if Path(name).is_file() else ""
    return next((known for known in PUBLISHED.values() if known.sha256 == digest), None)


def ranks_of(name: str) -> dict[bytes, int]:
    """The ranks of a published encoding, or those in a file.

    A published one comes from tiktoken's cache on this machine, or through tiktoken itself, which
    downloads it, where that is installed.

    Raises:
        InputError: there is neither, or the file is no rank file.
    """
    if name not in PUBLISHED:
        return read_ranks(Path(name))
    file = cached_file(name)
    if file is not None:
        return read_ranks(file)
    remedy = f"pip install tiktoken, or give the path of {PUBLISHED[name].file}"
    try:
        import tiktoken
    except ImportError as error:
        raise InputError(name, "its ranks are not on this machine", remedy) from error
    try:
        return dict(tiktoken.get_encoding(name)._mergeable_ranks)
    except OSError as error:  # what requests raises is one
        raise InputError(name, f"tiktoken could not fetch its ranks ({error})", remedy) from error


def read_ranks(file: Path) -> dict[bytes, int]:
    """Token bytes -> rank. Raises InputError for a file that is absent or no rank file."""
    remedy = "give a .tiktoken file: base64 of a token, a space and its rank on every line"
    if not file.is_file():
        raise InputError(str(file), "there is no such file", remedy)
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise InputError(f"{file}:{number}", f"is no rank ({error})", remedy) from error
    missing = [byte for byte in range(NUM_BYTES) if bytes([byte]) not in ranks]
    if missing or sorted(ranks.values()) != list(range(len(ranks))):
        what = f"byte {missing[0]} has no rank" if missing else "its ranks are not 0, 1, 2, ..."
        raise InputError(str(file), what, remedy)
    return ranks


def write_encoding(folder: Path, tokenizer: Tokenizer, pattern: str, added: Sequence[str]) -> None:
    """Write a byte-level tokenizer's vocabulary for tiktoken, and what its ranks do not say.

    `ranks.tiktoken` is a rank file; `encoding.json` holds `pat_str` and `special_tokens` as
    `tiktoken.Encoding` takes them.

    Args:
        added: the tokens of the ids behind the learnt ones, in order.
    """
    folder.mkdir(exist_ok=True)
    tokens = tokens_of(tokenizer)
    lines = (base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))
    (folder / "ranks.tiktoken").write_bytes(b"".join(lines))
    specials = {name: len(tokens) + i for i, name in enumerate(added)}
    write_json(folder / "encoding.json", {"pat_str": pattern, "special_tokens": specials})


def merges_of(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The pair that makes each token, by rank; a token that no join reaches has none."""
    pairs = (last_two(token, ranks) for token in sorted(ranks, key=ranks.__getitem__))
    return [pair for pair in pairs if pair is not None]


def last_two(token: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, bytes] | None:
    """The parts of a token before its last join; none where no joins lead there."""
    parts = joined(token, ranks, fewest=2)
    return (parts[0], parts[1]) if len(parts) == 2 else None


def joined(piece: bytes, ranks: Mapping[bytes, int], fewest: int = 1) -> list[bytes]:
    """The tokens of a piece by tiktoken's rule, or its `fewest` parts on the way there."""
    parts = [piece[i : i + 1] for i in range(len(piece))]
    unions = [ranks.get(left + right) for left, right in zip(parts, parts[1:], strict=False)]
    while len(parts) > fewest:
        lowest = min((rank for rank in unions if rank is not None), default=None)
        if lowest is None:
            break
        at = unions.index(lowest)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
        del unions[at]
        if at > 0:
            unions[at - 1] = ranks.get(parts[at - 1] + parts[at])
        if at < len(unions):
            unions[at] = ranks.get(parts[at] + parts[at + 1])
    return parts


def count_tokens(texts: Iterable[str], ranks: Mapping[bytes, int], pattern: str) -> int:
    """How many tokens the texts are, without a tokenizer, whose building takes seconds.

    A piece beyond LONGEST_PIECE bytes is counted in parts, which may add a token at each seam.
    """
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    pieces = Counter(piece for text in texts for piece, _ in split.pre_tokenize_str(text))
    total = 0
    for piece, times in pieces.items():
        data = piece.encode()
        parts = (data[i : i + LONGEST_PIECE] for i in range(0, len(data), LONGEST_PIECE))
        total += times * sum(1 if part in ranks else len(joined(part, ranks)) for part in parts)
    return total


def from_ranks(ranks: Mapping[bytes, int], pattern: str) -> Tokenizer:
    """The tokenizer that gives tiktoken's ids, without specials.

    Args:
        pattern: the regular expression that cuts text, as `tokenizers` reads it.
    """
    from tokenizers import models

    alphabet = byte_alphabet()
    spelled = {token: "".join(alphabet[byte] for byte in token) for token in ranks}
    vocabulary = {spelled[token]: rank for token, rank in ranks.items()}
    merges = [(spelled[left], spelled[right]) for left, right in merges_of(ranks)]
    return byte_level(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True), pattern)


def own_merges(tokenizer: Tokenizer) -> list[tuple[bytes, bytes]]:
    """The merges of a byte-level tokenizer, in their order, as bytes."""
    letters = {letter: byte for byte, letter in enumerate(byte_alphabet())}
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [
        (bytes(map(letters.__getitem__, left)), bytes(map(letters.__getitem__, right)))
        for left, right in merges
    ]


def tokens_of(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes of every learnt token of a byte-level tokenizer, in the order of their ids."""
    letters = {letter: byte for byte, letter in enumerate(byte_alphabet())}
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    ordered = sorted(vocabulary, key=vocabulary.__getitem__)
    return [bytes(letters[letter] for letter in token) for token in ordered]


def token_sizes(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """UTF-8 bytes of the text of every id of a byte-level tokenizer; those of specials are 0."""
    import numpy as np

    known = tokenizer.get_vocab(with_added_tokens=True)
    sizes: NDArray[np.int64] = np.zeros(max(known.values()) + 1, dtype=np.int64)
    tokens = tokens_of(tokenizer)
    sizes[: len(tokens)] = [len(token) for token in tokens]
    return sizes


@cache
def byte_alphabet() -> tuple[str, ...]:
    """The printable letter of each of the 256 bytes, as GPT-2's encoder.py has them.

    Source: https://github.com/openai/gpt-2/blob/master/src/encoder.py (bytes_to_unicode).
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(NUM_BYTES) if byte not in printable]
    return tuple(
        chr(byte) if byte in printable else chr(NUM_BYTES + others.index(byte))
        for byte in range(NUM_BYTES)
    )
