"""MinHash deduplication of tinyworld documents among which near-duplicates of known similarity lie.

    python benchmarks/minhash.py --make        writes the corpus (a minute), times nothing
    python benchmarks/minhash.py [--documents 200000] [--num-proc 2] [--output FILE]

A planted pair is a page with words of its own, so that no third document is like it, and a copy
with other words at the end; how many, decides the exact similarity of their sets of word 5-grams.
The whole `curate` stage is run on the corpus, from JSON Lines to Parquet, in a process of its own,
whose memory is summed with that of its workers ten times a second (pages that they share count for
each). Recall is the share of the pairs whose copy is removed in favour of its original, beside what
the formula says of their exact similarities.

The ratio to rensa (https://github.com/beowolx/rensa, Rust) and to datatrove's own functions is
taken in one process and on one core, from texts to the verdict on each document for rensa, to
signatures for datatrove, on the first documents of the same corpus.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

from machine import ForeignTime, write_result

SIMILARITIES = (0.7, 0.75, 0.8, 0.85, 0.9)
BOUND_SECONDS, BOUND_GB, BOUND_POINTS = 120, 1.0, 2.0
SUBSET, DATATROVE_SUBSET = 20_000, 1_000
RUN = """
import json, sys
from pathlib import Path
from llmkit.data.curation.minhash import MinHash
from llmkit.data.sources.table import PathSource
from llmkit.stage import Context
from llmkit.stages.curate import Curate
source, out, num_proc = sys.argv[1:]
stage = Curate(sources=(PathSource(path=source),), steps=(MinHash(),), num_proc=int(num_proc))
stage.run(Context(name="curate", out=Path(out)))
"""


def shingles(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}


def pair(words: list[str], similarity: float, mark: str, rng: random.Random) -> list[list[str]]:
    """`words` with every fourth one replaced by one of its own, and a copy with another end."""
    own = [f"{mark}{chr(97 + at % 26)}" if at % 4 == 0 else w for at, w in enumerate(words)]
    grams = len(own) - 4
    changed = grams * (1 - similarity) / (1 + similarity)
    number = int(changed) + (rng.random() < changed % 1)  # right on average
    # Letters alone, since numbers are all one to MinHash.
    end = [f"{mark}{chr(97 + at % 26)}{chr(97 + at // 26)}" for at in range(number)]
    return [own, [*own[: len(own) - number], *end]]


def make(path: Path, number: int, pairs: int) -> None:
    """Write the corpus, with `pairs` of each similarity spread over it: a row a line."""
    from llmkit.data.tinyworld.documents import documents
    from llmkit.data.tinyworld.world import World

    rng = random.Random(0)
    planted = []
    plain = documents(World(seed=0, people=400), 10**9, seed=0)
    for similarity in SIMILARITIES:
        while len(planted) < pairs * (1 + SIMILARITIES.index(similarity)):
            document = next(plain)
            words = "".join(c if c.isalpha() else " " for c in document.text.lower()).split()
            if document.metadata["keep"] and len(words) >= 60:
                mark = "".join(rng.choices("bcdfghjklmnpqrstvwxz", k=9))
                planted.append((similarity, pair(words, similarity, mark, rng)))
    rows = []
    for at, (similarity, (one, other)) in enumerate(planted):
        a, b = shingles(one), shingles(other)
        exact = len(a & b) / len(a | b)
        rows.append((rng.random(), f"one-{at}", " ".join(one), similarity, exact))
        rows.append((1 + rng.random(), f"other-{at}", " ".join(other), similarity, exact))
    rows += [
        (2 * rng.random(), d.id, d.text, None, None) for d in islice(plain, number - len(rows))
    ]
    rows.sort()
    with path.open("w", encoding="utf-8") as file:
        for _, name, text, similarity, exact in rows:
            row = {"id": name, "text": text, "planned": similarity, "similarity": exact}
            file.write(json.dumps(row) + "\n")


def run_stage(corpus: Path, out: Path, num_proc: int) -> dict[str, float]:
    """Seconds and peak memory (MB) of the stage in a process of its own."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", RUN, str(corpus), str(out), str(num_proc)])
    peaks = {"all": 0.0, "largest": 0.0}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            sizes = [resident_mb(pid) for pid in family(process.pid)]
            peaks["all"] = max(peaks["all"], sum(sizes))
            peaks["largest"] = max([peaks["largest"], *sizes])

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    seconds = time.perf_counter() - started
    over.set()
    watcher.join()
    if status:
        raise SystemExit("the stage failed")
    return {
        "seconds": round(seconds, 1),
        "peak_mb_all_processes": round(peaks["all"]),
        "peak_mb_largest_process": round(peaks["largest"]),
    }


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    try:
        texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [pid, *(one for text in texts for child in text.split() for one in family(int(child)))]


def resident_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6
    except OSError:
        return 0.0


def recall(corpus: Path, out: Path) -> dict[str, Any]:
    """By planned similarity: found and expected share of the pairs, in percent."""
    import pyarrow.parquet as pq

    from llmkit.data.curation.minhash import MinHash

    removed = pq.read_table(out / "removed", columns=["id", "detail"]).to_pylist()
    kept_of = {row["id"]: row["detail"] for row in removed}
    found: dict[float, list[tuple[bool, float]]] = {}
    with corpus.open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            if row["planned"] and row["id"].startswith("other"):
                hit = kept_of.get(row["id"]) == row["id"].replace("other", "one")
                probability = MinHash().probability(row["similarity"])
                found.setdefault(row["planned"], []).append((hit, probability))
    return {
        str(planned): {
            "pairs": len(pairs),
            "found_percent": round(100 * sum(hit for hit, _ in pairs) / len(pairs), 2),
            "expected_percent": round(100 * sum(p for _, p in pairs) / len(pairs), 2),
        }
        for planned, pairs in sorted(found.items())
    }


def ours(texts: list[str]) -> int:
    """Texts to the number of duplicates."""
    import numpy as np

    from llmkit.data.curation.clusters import first_members
    from llmkit.data.curation.minhash import MinHash
    from llmkit.data.curation.spill import signatures

    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "keys.npy", signatures(texts, MinHash()).keys)
        firsts = first_members([Path(folder) / "keys.npy"])
    return int((firsts != np.arange(len(firsts))).sum())


def with_rensa(texts: list[str]) -> int:
    """The same with rensa, on the same n-grams; its values have 32 bits."""
    from rensa import RMinHash, RMinHashLSH

    from llmkit.data.curation.minhash_signatures import normalised

    sets = []
    for text in texts:
        words = normalised(text).split()
        sets.append([" ".join(words[at : at + 5]) for at in range(max(1, len(words) - 4))])
    matrix = RMinHash.digest_matrix_from_token_sets(sets, 112, 1)
    lsh = RMinHashLSH(threshold=0.0, num_perm=112, num_bands=14)
    return sum(lsh.insert_matrix_and_query_duplicate_flags(matrix))


def with_datatrove(texts: list[str]) -> int:
    """Signatures alone, by datatrove's own functions (spaCy's English words, SHA-1)."""
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(hash_config=HashConfig(precision=64, hash_fc="sha1"))
    step = MinhashDedupSignature("/tmp", config, language="eng")
    for text in texts:
        step.get_signature(step.get_shingles(text))
    return 0


def rates(texts: list[str]) -> dict[str, Any]:
    """Documents a second of each, with the duplicates it tells of; absent where not installed."""
    several: dict[str, tuple[str, Callable[[list[str]], int], int]] = {
        "llmkit": ("numpy", ours, SUBSET),
        "rensa": ("rensa", with_rensa, SUBSET),
        "datatrove, signatures only": ("datatrove", with_datatrove, DATATROVE_SUBSET),
    }
    told = {}
    for name, (package, function, number) in several.items():
        try:
            installed = version(package)
        except PackageNotFoundError:
            continue
        function(texts[:100])
        started = time.process_time()
        duplicates = function(texts[:number])
        seconds = time.process_time() - started
        told[name] = {
            f"{package} version": installed,
            "documents": number,
            "documents_per_cpu_second": round(number / seconds),
            "duplicates": duplicates,
        }
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--pairs", type=int, default=2000, help="planted, of each similarity")
    parser.add_argument("--num-proc", type=int, default=2)
    parser.add_argument("--make", action="store_true", help="write the corpus and end")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/minhash.json")
    chosen = parser.parse_args()
    corpus = Path(tempfile.gettempdir()) / f"llmkit-minhash-{chosen.documents}-{chosen.pairs}.jsonl"
    if chosen.make or not corpus.is_file():
        make(corpus, chosen.documents, chosen.pairs)
    if chosen.make:
        return
    watch = ForeignTime()
    with tempfile.TemporaryDirectory() as folder:
        measured = run_stage(corpus, Path(folder), chosen.num_proc)
        found = recall(corpus, Path(folder))
        clusters = json.loads((Path(folder) / "stats.json").read_text())["steps"][1]["clusters"]
    print(json.dumps({**measured, "recall": found}, indent=2))
    off = abs(found["0.8"]["found_percent"] - found["0.8"]["expected_percent"])
    bounds = {
        "seconds": measured["seconds"] < BOUND_SECONDS,
        "memory": measured["peak_mb_all_processes"] < 1000 * BOUND_GB,
        "recall": off < BOUND_POINTS,
    }
    with corpus.open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for _, line in zip(range(SUBSET), file, strict=False)]
    compared = rates(texts)
    print(json.dumps(compared, indent=2))
    result = {
        "documents": chosen.documents,
        "num_proc": chosen.num_proc,
        **measured,
        "within_bounds": bounds,
        "recall_by_similarity": found,
        "clusters": clusters,
        "one_core": compared,
    }
    write_result("minhash", result, watch.share(), chosen.output)


if __name__ == "__main__":
    main()
