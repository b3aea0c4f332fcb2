"""English words and sentences as spaCy's blank English pipeline splits them, several times faster.

datatrove's filters, with which FineWeb is made, count words and sentences by spaCy. A verdict is
the same only where the words are; so this module follows the algorithm of
https://spacy.io/usage/linguistic-features#how-tokenizer-works and the rules of
https://github.com/explosion/spaCy/blob/v3.8.7/spacy/lang/punctuation.py, and
`tests/data/curation/test_english_words.py` holds words and sentences equal to spaCy's on real texts
and on random ones.

A text falls into chunks between white space. From a chunk marks are taken off both ends until an
exception, or nothing to take, is left; the rest is one word if it is a URL, and else is cut at
marks within. What a chunk becomes depends on the chunk alone (but for the last paragraph), and
chunks are few and often repeated: they are remembered, and a text costs one look-up a chunk.

Exceptions that hold marks ("and/or", ":)") are put together again where their pieces stand in a
row. spaCy looks for such rows across white space too, and lets them hide a shorter one that is
real: `_rejoined` does the same for texts in which a row was found at all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import NamedTuple

from llmkit.data.curation.english_exceptions import exceptions
from llmkit.data.curation.english_marks import marks

Pieces = tuple[str, ...]

LONGEST_CHUNK = 10_000  # characters; a longer one is one word. spaCy's time grows as its square
LONGEST_REMEMBERED = 60
LONGEST_SUFFIX = 8  # characters, but for a run of dots
MOST_REMEMBERED = 200_000  # chunks, about 60 MB

SENTENCE_ENDS = frozenset(
    "!.?։؟۔܀܁܂߹।॥၊။።፧፨᙮᜵᜶᠃᠉᥄᥅᪨᪩᪪᪫᭚᭛᭞᭟᰻᰼᱾᱿‼‽⁇⁈⁉⸮⸼꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫﹒﹖﹗！．？𐩖𐩗𑁇𑁈𑂾𑂿𑃀𑃁𑅁𑅂𑅃𑇅𑇆𑇍𑇞𑇟𑈸𑈹𑈻𑈼𑊩𑑋𑑌𑗂𑗃𑗉𑗊𑗋"
    "𑗌𑗍𑗎𑗏𑗐𑗑𑗒𑗓𑗔𑗕𑗖𑗗𑙁𑙂𑜼𑜽𑜾𑩂𑩃𑪛𑪜𑱁𑱂𖩮𖩯𖫵𖬷𖬸𖭄𛲟𝪈｡。"
)
CLOSING = frozenset(',;:!?)]"”')  # always taken off the end
RUNS = re.compile(r"\S+|\s+")
IN_CONTEXT = " "  # no word is white space
PLAIN, END = "W", "P"  # what a piece is to the count of sentences; other punctuation is nothing


class Rows(NamedTuple):
    """Exceptions that hold marks, by the pieces that they would be without the exceptions."""

    words: dict[Pieces, str]
    heads: frozenset[str]  # the first pieces
    longest: int  # pieces


@cache
def rows() -> Rows:
    """Worked out on first use."""
    prefix, suffix, infix, _ = marks()
    words = {
        _cut(word, {}): word
        for word in exceptions()
        if prefix.match(word) or suffix.search(word) or infix.search(word)
    }
    return Rows(words, frozenset(row[0] for row in words), max(map(len, words)))


def _plainly(chunk: str, known: dict[str, Pieces]) -> Pieces:
    """What `_cut` gives for letters with at most one mark behind them, as most chunks are."""
    if chunk in known:
        return known[chunk]
    if chunk.isalpha():
        return (chunk,)
    rest, mark = chunk[:-1], chunk[-1]
    if not (rest.isalpha() and rest.isascii()) or rest in known:
        return ()
    return (rest, mark) if mark in CLOSING or (mark == "." and rest[-1].islower()) else ()


def _cut(chunk: str, known: dict[str, Pieces]) -> Pieces:
    """The pieces of a chunk, before exceptions are put together again."""
    if chunk in known:
        return known[chunk]
    front: list[str] = []
    back: list[str] = []
    rest, size = chunk, 0
    prefix = marks().prefix
    while rest and len(rest) != size and not rest.isalpha() and rest not in known:
        size = len(rest)
        found = prefix.match(rest)
        first = found.end() if found else 0
        if first and rest[first:] in known:
            front.append(rest[:first])
            rest = rest[first:]
            break
        last = _suffix_length(rest[first:])
        if last and rest[:-last] in known:
            back.append(rest[-last:])
            rest = rest[:-last]
            break
        if first:
            front.append(rest[:first])
        if last:
            back.append(rest[-last:])
        rest = rest[first : size - last]
    return (*front, *_cut_within(rest, known), *reversed(back))


def _suffix_length(rest: str) -> int:
    if rest.endswith(".."):
        return len(rest) - len(rest.rstrip("."))
    found = marks().suffix.search(rest, max(0, len(rest) - LONGEST_SUFFIX))
    return len(rest) - found.start() if found else 0


def _cut_within(rest: str, known: dict[str, Pieces]) -> Pieces:
    if not rest:
        return ()
    if rest in known:
        return known[rest]
    if rest.isalpha() or ("." in rest and marks().url.match(rest)):
        return (rest,)
    pieces = []
    start = 0
    for mark in marks().infix.finditer(rest):
        if not mark.start():
            continue
        if mark.start() != start:
            pieces.append(rest[start : mark.start()])
        pieces.append(mark[0])
        start = mark.end()
    if start < len(rest):
        pieces.append(rest[start:])
    return tuple(pieces)


def _rejoined(pieces: Sequence[str], chunk_of: Sequence[int]) -> list[list[str]]:
    """Exceptions put together again, as the final pieces in place of each first one.

    A longer row hides a shorter one that begins or ends within it, the earlier one of equally long
    ones the later; one that reaches over the end of a chunk hides too, but is no exception itself.
    """
    words, heads, longest = rows()
    found = [
        (end - start, -start)
        for start, piece in enumerate(pieces)
        if piece in heads
        for end in range(start + 1, min(start + longest, len(pieces)) + 1)
        if tuple(pieces[start:end]) in words
    ]
    result = [[piece] for piece in pieces]
    hidden: set[int] = set()
    for length, start in sorted(found, reverse=True):
        start, end = -start, length - start
        whole = chunk_of[start] == chunk_of[end - 1]
        if whole and start not in hidden and end - 1 not in hidden:
            known = exceptions()[words[tuple(pieces[start:end])]]
            result[start:end] = [list(known), *([] for _ in range(length - 1))]
        hidden.update(range(start, end))
    return result


class Remembered(dict[str, Pieces]):
    """Chunk -> its pieces, worked out when it is first asked for.

    `rejoined` holds the chunks in which an exception was put together again, with the pieces from
    before: in these the neighbours may have a say, so `IN_CONTEXT` stands for their words.
    """

    def __init__(self) -> None:
        self.rejoined: dict[str, Pieces] = {}

    def __missing__(self, chunk: str) -> Pieces:
        if len(chunk) > LONGEST_CHUNK:
            return (chunk,)
        pieces = cut = _plainly(chunk, exceptions()) or _cut(chunk, exceptions())
        # A row of one or two pieces is the whole chunk, which an exception is before it is cut.
        if len(cut) > 2 and not rows().heads.isdisjoint(cut):
            pieces = tuple(chain.from_iterable(_rejoined(cut, [0] * len(cut))))
        if pieces != cut:
            self.rejoined[chunk] = cut
            pieces = (IN_CONTEXT,)
        if len(chunk) <= LONGEST_REMEMBERED:
            self[chunk] = pieces
        return pieces


class Profiles(dict[str, str]):
    """Chunk -> what its pieces are to the count of sentences: `"end.)"` -> `"WP"`."""

    def __missing__(self, chunk: str) -> str:
        pieces = WORDS[chunk]
        profile = "".join(map(profile_of, pieces)).replace(PLAIN * 2, PLAIN)
        if IN_CONTEXT in pieces:
            profile = IN_CONTEXT
        if len(chunk) <= LONGEST_REMEMBERED:
            self[chunk] = profile
        return profile


WORDS, PROFILES = Remembered(), Profiles()


def profile_of(piece: str) -> str:
    """A mark that ends a sentence, other punctuation (which goes with either), or what begins one.

    Punctuation is Unicode's: https://www.unicode.org/reports/tr44/#General_Category_Values.
    """
    if piece in SENTENCE_ENDS:
        return END
    if piece[0].isalnum():  # as most do, and no punctuation
        return PLAIN
    punctuation = all(unicodedata.category(character)[0] == "P" for character in piece)
    return "" if punctuation else PLAIN


def words_of(text: str) -> tuple[str, ...]:
    """`"It's 3.5km (e.g., here)..."` -> `("It", "'s", "3.5", "km", "(", "e.g.", ",", ...)`."""
    chunks = text.split()
    _make_room()
    found: list[Sequence[str]] = list(map(WORDS.__getitem__, chunks))
    words = tuple(chain.from_iterable(found))
    if IN_CONTEXT in words:
        runs = RUNS.findall(text)
        first = int(runs[0].isspace())  # every second run is white space
        for place, pieces in enumerate(found):
            if IN_CONTEXT in pieces:
                found[place] = _among(runs, first + 2 * place)
        words = tuple(chain.from_iterable(found))
    return words


def count_sentences(text: str) -> int:
    """Sentences, by spaCy's rule: one begins at a word after `.`, `!`, `?` or their like.

    White space other than one space between words is a word of its own to that rule.
    """
    chunks = text.split()
    _make_room()
    profile = "".join(map(PROFILES.__getitem__, chunks))
    if IN_CONTEXT in profile or " ".join(chunks) != text:
        profile = "".join(_profiles_in_context(text))
    return 1 + profile.count(END + PLAIN)


def _make_room() -> None:
    if len(WORDS) > MOST_REMEMBERED:
        WORDS.clear()
        WORDS.rejoined.clear()
        PROFILES.clear()


def _profiles_in_context(text: str) -> Iterator[str]:
    """The profiles of a whole text, of white space that counts as a word too."""
    runs = RUNS.findall(text)
    for place, run in enumerate(runs):
        if run.isspace():
            yield PLAIN if _before_joining(runs, place) else ""
        elif PROFILES[run] == IN_CONTEXT:
            yield "".join(map(profile_of, _among(runs, place)))
        else:
            yield PROFILES[run]


def _before_joining(runs: list[str], place: int) -> Pieces:
    run = runs[place]
    if run.isspace():
        run = run[1:] if place and run[0] == " " else run
        return (run,) if run else ()
    pieces = WORDS[run]  # which fills `rejoined` too
    return WORDS.rejoined.get(run, pieces)


def _among(runs: list[str], place: int) -> list[str]:
    """The words of one chunk beside as many neighbours as a row could reach."""
    reach = 2 * rows().longest  # every second run is white space
    pieces: list[str] = []
    chunk_of: list[int] = []
    for number in range(max(0, place - reach), min(len(runs), place + reach + 1)):
        news = _before_joining(runs, number)
        pieces += news
        chunk_of += [number] * len(news)
    joined = _rejoined(pieces, chunk_of)
    found = (words for words, chunk in zip(joined, chunk_of, strict=True) if chunk == place)
    return list(chain.from_iterable(found))
