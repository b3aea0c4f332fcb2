"""Encoding and training speed beside the libraries that people use, on the same text.

    python benchmarks/tokenizing.py --part encode | forms | train | stage
        [--text FOLDER ...] [--megabytes 40] [--vocab-size 32768] [--output FILE]

encode  MB/s of `tokenizers`' encode_batch and encode_batch_fast, of tiktoken, and of llmkit's
        backend, its comparison on the way included; all ids are compared first
forms   seconds in which `tokenizers` cuts the text, by spelling of GPT-4's pattern
train   seconds of training: `tokenizers` by those spellings, rustbpe, bpeasy, gigatoken
stage   MB/s of the whole tokenize stage, files and gates included, with either backend

The text: every file of --text that is text, by name (default: the Python packages installed here,
and ../shared/data where it is), JSON lines as they are, cut into documents of 20,000 letters at
most. Other trainers are used where they are installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

os.environ["TOKENIZERS_PARALLELISM"] = "true"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from machine import ForeignTime, write_result  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

from llmkit.data.documents import Document, write_documents  # noqa: E402
from llmkit.data.tokens import bpe, tiktoken_ranks  # noqa: E402
from llmkit.data.tokens.encoding_backend import Choice, TokenizersBackend, choose  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = (".txt", ".jsonl", ".md", ".rst", ".py", ".json")
LETTERS = 20_000
_LLAMA3 = bpe.PATTERNS["llama3"]
# Spellings that cut as GPT-4's does, but for the first of Llama 3's at some ends of texts.
FORMS = {
    "gpt4, as tiktoken 0.14 spells it": bpe.PATTERNS["gpt4"],
    "llama3": _LLAMA3,
    "llama3 with the end of text": _LLAMA3.replace(r"|\s*[\r\n]+|", r"|\s+\z|\s*[\r\n]+|"),
    "llama3, contractions as in gpt4": _LLAMA3.replace(
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'(?i:[sdmt]|ll|ve|re)"
    ),
}
MERGES_OF_FORMS = 256  # ids: the bytes alone, so that cutting is all there is


def documents(folders: Sequence[Path], megabytes: float) -> list[str]:
    """Text of the folders' files in the order of their names, up to so many million bytes."""
    found: list[str] = []
    left = megabytes * 1e6
    for text in _texts(folders):
        found.append(text)
        left -= len(text.encode())
        if left <= 0:
            return found
    raise SystemExit(f"there are but {megabytes - left / 1e6:.1f} MB of text; give other --text")


def _texts(folders: Sequence[Path]) -> Iterator[str]:
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            if file.suffix in SUFFIXES and file.is_file():
                text = file.read_text(encoding="utf-8", errors="ignore")
                yield from (text[i : i + LETTERS] for i in range(0, len(text), LETTERS))


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def encode(texts: list[str], vocab_size: int) -> list[dict[str, Any]]:
    """A row a library: MB/s, and how many times `encode_batch`'s."""
    trained = bpe.train(
        texts[:: max(1, len(texts) // 400)], vocab_size=vocab_size, pattern=FORMS["llama3"]
    )
    exact = Tokenizer.from_str(trained.to_str())
    choice = choose(exact, "auto", texts[:200])
    ways: dict[str, Callable[[], object]] = {
        "tokenizers, encode_batch": lambda: exact.encode_batch(texts, add_special_tokens=False),
        "tokenizers, encode_batch_fast": lambda: TokenizersBackend(exact).encode(texts),
        f"llmkit ({choice.backend.name}), first pass": lambda: in_batches(choice, texts),
        f"llmkit ({choice.backend.name}), second pass": lambda: in_batches(choice, texts),
    }
    ids, lengths = TokenizersBackend(exact).encode(texts)
    fresh = choose(exact, "auto", texts[:200])
    fresh.compare(texts, *fresh.backend.encode(texts))
    if fresh.differing:
        raise SystemExit(f"not timed: {len(fresh.differing)} of {len(texts)} texts differ")
    if importlib.util.find_spec("tiktoken"):
        theirs = _tiktoken(trained)
        if [len(row) for row in theirs.encode_ordinary_batch(texts)] != lengths.tolist():
            raise SystemExit("not timed: tiktoken gives other ids")
        ways["tiktoken, encode_ordinary_batch"] = lambda: theirs.encode_ordinary_batch(texts)
    size = sum(len(text.encode()) for text in texts) / 1e6
    rates = {name: size / seconds(work) for name, work in ways.items()}
    base = rates["tokenizers, encode_batch"]
    for name, rate in rates.items():
        print(f"{name:44} {rate:8.1f} MB/s  x{rate / base:.1f}")
    print(f"{len(ids):,} ids of {len(texts):,} texts equal")
    return [
        {"variant": n, "mb_per_second": round(r, 1), "against_encode_batch": round(r / base, 2)}
        for n, r in rates.items()
    ]


def in_batches(choice: Choice, texts: list[str], size: int = 400) -> None:
    """As the stage encodes: with one text of each batch compared."""
    for start in range(0, len(texts), size):
        choice.encode(texts[start : start + size])


def _tiktoken(trained: Tokenizer) -> Any:
    import tiktoken

    ranks = {token: rank for rank, token in enumerate(tiktoken_ranks.tokens_of(trained))}
    return tiktoken.Encoding(
        "trained", pat_str=FORMS["llama3"], mergeable_ranks=ranks, special_tokens={}
    )


def forms(texts: list[str], vocab_size: int) -> list[dict[str, Any]]:
    """A row a spelling of the pattern."""
    return [
        {"form": name, "seconds": round(took, 2)}
        for name, pattern in FORMS.items()
        if (took := _told(name, lambda p=pattern: _own(texts, MERGES_OF_FORMS, p)))
    ]


def _own(texts: list[str], vocab_size: int, pattern: str) -> set[bytes]:
    trained = bpe.train(texts, vocab_size=vocab_size, pattern=pattern)
    return set(tiktoken_ranks.tokens_of(trained))


def _told(name: str, work: Callable[[], object]) -> float:
    took = seconds(work)
    print(f"{name:44} {took:8.2f} s")
    return took


def train(texts: list[str], vocab_size: int) -> list[dict[str, Any]]:
    """A row a trainer: seconds, and what share of its tokens `tokenizers` learns too."""
    own = {
        f"tokenizers, {name}": lambda p=pattern: _own(texts, vocab_size, p)
        for name, pattern in list(FORMS.items())[:2]
    }
    others = {"rustbpe": _rustbpe, "bpeasy": _bpeasy, "gigatoken": _gigatoken}
    ways = own | {
        name: lambda w=work: w(texts, vocab_size)
        for name, work in others.items()
        if importlib.util.find_spec(name)
    }
    rows: list[dict[str, Any]] = []
    due: set[bytes] = set()
    for name, work in ways.items():
        started = time.perf_counter()
        tokens = work()
        took = time.perf_counter() - started
        due = due or tokens
        shared = len(tokens & due) / len(due)
        rows.append({"trainer": name, "seconds": round(took, 2), "ids": len(tokens)})
        rows[-1] |= {"tokens_in_common": round(shared, 4)}
        print(f"{name:44} {took:8.2f} s  {len(tokens):,} ids, {shared:.1%} in common")
    return rows


def _rustbpe(texts: list[str], vocab_size: int) -> set[bytes]:
    import rustbpe

    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(iter(texts), vocab_size, pattern=FORMS["llama3"])
    return {bytes(token) for token, _ in trainer.get_mergeable_ranks()}


def _bpeasy(texts: list[str], vocab_size: int) -> set[bytes]:
    import bpeasy

    return set(bpeasy.train_bpe(iter(texts), FORMS["llama3"], 128, vocab_size))


def _gigatoken(texts: list[str], vocab_size: int) -> set[bytes]:
    """Its training pattern is its own, and cuts otherwise."""
    import gigatoken

    separator = b"\x00\x00\x00"
    data = separator.join(text.encode() for text in texts)
    vocabulary, _ = gigatoken.train_bpe(data, vocab_size, [], separator=separator)
    return set(vocabulary.values())


def stage(texts: list[str], vocab_size: int) -> list[dict[str, Any]]:
    """A row a backend: MB/s of the tokenize stage as a whole."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        items = [Document(text=text, id=str(i)) for i, text in enumerate(texts)]
        write_documents(root / "curate" / "documents" / "00000.parquet", items)
        trained = bpe.train(texts[::20], vocab_size=vocab_size, pattern=FORMS["llama3"])
        bpe.with_specials(trained, None).save_pretrained(root / "tokenizer")
        size = sum(len(text.encode()) for text in texts) / 1e6
        for backend in ("tokenizers", "auto"):
            took, used = _stage(root, backend)
            rows.append({"backend": used, "mb_per_second": round(size / took, 1)})
            print(f"stage with {used:32} {size / took:8.1f} MB/s")
        if len({(root / b / "index.json").read_text() for b in ("tokenizers", "auto")}) > 1:
            raise SystemExit("the backends' shards differ")
    return rows


def _stage(root: Path, backend: Literal["tokenizers", "auto"]) -> tuple[float, str]:
    """Seconds of a tokenize stage, and the backend that it used."""
    from llmkit.stage import Context
    from llmkit.stages.tokenize import Tokenize

    inputs = {"curate": root / "curate", "tokenizer": root / "tokenizer"}
    context = Context(name="tokenize", out=root / backend, inputs=inputs)
    context.out.mkdir()
    made = Tokenize(documents="curate", tokenizer="tokenizer", context_length=1024, backend=backend)
    started = time.perf_counter()
    figures = made.run(context)
    return time.perf_counter() - started, figures["backend"]


PARTS = {"encode": encode, "forms": forms, "train": train, "stage": stage}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--part", choices=PARTS, required=True)
    installed = [Path(sysconfig.get_paths()["purelib"])]
    usual = [folder for folder in [ROOT.parent / "shared" / "data"] if folder.is_dir()] + installed
    parser.add_argument("--text", type=Path, nargs="+", default=usual)
    parser.add_argument("--megabytes", type=float, default=40)
    parser.add_argument("--vocab-size", type=int, default=32_768)
    parser.add_argument("--output", type=Path, help="benchmarks/results/tokenizing_<part>.json")
    chosen = parser.parse_args()
    texts = documents(chosen.text, chosen.megabytes)
    watch = ForeignTime()
    rows = PARTS[chosen.part](texts, chosen.vocab_size)
    foreign = watch.share()
    result = {
        "megabytes": round(sum(len(text.encode()) for text in texts) / 1e6, 1),
        "vocab_size": chosen.vocab_size,
        "rows": rows,
    }
    write_result(f"tokenizing_{chosen.part}", result, foreign, chosen.output)


if __name__ == "__main__":
    main()
