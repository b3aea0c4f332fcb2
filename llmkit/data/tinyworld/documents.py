"""The small web about a world: a stream of documents that say what they are.

Document `i` follows from the world, the seed and `i` alone, so a stream may start anywhere, and a
duplicate writes its original again instead of remembering it.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from llmkit.data.documents import Document
from llmkit.data.tinyworld import junk
from llmkit.data.tinyworld.library import Library, library, pick
from llmkit.data.tinyworld.pages import good_text
from llmkit.data.tinyworld.world import World

EMAIL_SHARE = 0.04  # of the pages and stories end with somebody's planted address


def documents(
    world: World, num_documents: int, seed: int = 0, start: int = 0
) -> Iterator[Document]:
    """Yield documents `start` to `num_documents - 1` of the world's web.

    Each one's `metadata` holds `url`, `date`, `language` and the truth about it: `kind` (page,
    story, dialogue, sums, junk), `junk` (which sort, or ""), `keep` (whether a perfect curation
    keeps it), `duplicate_of` (an id, or "") and `emails` (how many addresses are planted in it).
    """
    shelf = library(world)
    for index in range(start, num_documents):
        yield document(shelf, seed, index)


def document(shelf: Library, seed: int, index: int) -> Document:
    """Document `index` of the stream."""
    rng = _rng(shelf, seed, index)
    sort = _sort(rng.random())
    original = None
    if sort.endswith("_duplicate"):
        original = _original(shelf, rng, seed, index)
        sort = sort if original else ""  # the first pages have nothing to be copies of
    kind, language = "junk", "en"
    if original:
        text = junk.copied(rng, shelf, original.text, sort)
    elif sort:
        text, language = junk.FRESH[sort](rng, shelf)
    else:
        kind, text = _good(rng, shelf)
    host = pick(rng, shelf.towns).name.lower()
    month, day = 1 + int(rng.random() * 12), 1 + int(rng.random() * 28)
    metadata = {
        "url": f"https://{host}.example/{seed}/{index}",
        "date": f"2024-{month:02}-{day:02}T12:00:00Z",
        "language": language,
        "kind": kind,
        "junk": sort,
        "keep": not sort,
        "duplicate_of": original.id if original else "",
        "emails": text.count("@"),
    }
    return Document(text, f"tinyworld-{shelf.world.seed}-{seed}-{index:07d}", metadata)


def _rng(shelf: Library, seed: int, index: int) -> Random:
    return Random(f"{shelf.world.seed}:documents:{seed}:{index}")


def _sort(at: float) -> str:
    """The sort of junk that a draw of 0..1 falls on; "" for a good document."""
    for sort, share in junk.SHARES.items():
        at -= share
        if at < 0:
            return sort
    return ""


def _good(rng: Random, shelf: Library) -> tuple[str, str]:
    kind, text = good_text(rng, shelf)
    if kind in ("page", "story") and rng.random() < EMAIL_SHARE:
        write_to = junk.address(pick(rng, shelf.people), pick(rng, shelf.towns))
        text = f"{text} Letters go to {write_to}."
    return kind, text


def _original(shelf: Library, rng: Random, seed: int, index: int) -> Document | None:
    """A good document before `index`; None where there is none yet."""
    for at in range(int(rng.random() * index), -1, -1):
        if at < index and not _sort(_rng(shelf, seed, at).random()):
            return document(shelf, seed, at)
    return None
