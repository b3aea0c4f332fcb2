"""English words that spaCy splits, or leaves whole, against its own rules.

What is split how are facts about spaCy 3.8:
https://github.com/explosion/spaCy/blob/v3.8.7/spacy/lang/en/tokenizer_exceptions.py and
https://github.com/explosion/spaCy/blob/v3.8.7/spacy/lang/tokenizer_exceptions.py.
`tests/data/curation/test_english_words.py` holds the table equal to the installed spaCy's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

Pieces = tuple[str, ...]

PRONOUNS = ("i", "you", "he", "she", "it", "we", "they")
ADVERBS = ("who", "what", "when", "where", "why", "how", "there")  # and what asks like them
WILL_OR_WOULD = ("'ll", "'ll 've", "'d", "'d 've")
NEGATED = """ai are ca could dare did do does had has have is may might must need ought sha should
was were wo would""".split()
NEVER_NEGATED_TWICE = "ai are dare has have is was were".split()
MODALS = "could might must should would".split()
REAL_WORDS = "ill its hell shell shed were well whore".split()  # and no contractions

# Ends of words and their apostrophes, which stay on.
DROPPED_G = "doin goin havin lovin nothin nuthin ol somethin".split()
WHOLE = """' '' 'Cause 'Cos 'Coz 'Cuz 'S 'bout 'cause 'cos 'coz 'cuz 'd 'em 'll 'nuff 're 's em ll
nuff ‘S ‘s — and/or ma'am Ma'am o'clock O'clock w/o C++ <space> \\") \\n \\t""".split()
ABBREVIATIONS = """Adm. Ak. Ala. Apr. Ariz. Ark. Aug. Bros. Calif. Co. Colo. Conn. Corp. D.C. Dec.
Del. Dr. E.G. E.g. Feb. Fla. Ga. Gen. Gov. I.E. I.e. Ia. Id. Ill. Inc. Ind. Jan. Jr. Jul. Jun. Kan.
Kans. Ky. La. Ltd. Mar. Mass. Md. Messrs. Mich. Minn. Miss. Mo. Mont. Mr. Mrs. Ms. Mt. N.C. N.D.
N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. Ph.D. Prof. Rep. Rev. S.C. Sen. Sep.
Sept. St. Tenn. Va. Wash. Wis. a.m. co. e.g. i.e. p.m. v.s. vs.""".split()
SINGLE_LETTERS = "abcdefghijklmnopqrstuvwxyzäöü"  # "a." is one word
EMOTICONS = r"""
:) :-) :)) :-)) :))) :-))) (: (-: =) (= :] :-] [: [-: [= =] :o) (o: :} :-} 8) 8-) (-8 ;) ;-) (; (-;
:( :-( :(( :-(( :((( :-((( ): )-: =( >:( :') :'-) :'( :'-( :/ :-/ =/ =| :| :-| ]= =[ :1 :P :-P :p
:-p :O :-O :o :-o :0 :-0 :() >:o :* :-* :3 :-3 =3 :> :-> :X :-X :x :-x :D :-D ;D ;-D =D xD XD xDD
XDD 8D 8-D ^_^ ^__^ ^___^ >.< >.> <.< ._. ;_; -_- -__- v.v V.V v_v V_V o_o o_O O_o O_O 0_o o_0 0_0
o.O O.o O.O o.o 0.0 o.0 0.o @_@ <3 <33 <333 </3 (^_^) (-_-) (._.) (>_<) (*_*) (¬_¬) ಠ_ಠ ಠ︵ಠ (ಠ_ಠ)
¯\(ツ)/¯ (╯°□°）╯︵┻━┻ ><(((*>
""".split()
IRREGULAR = """y' all|y all|how 'd 'y|How 'd 'y|not 've|not ve|Not 've|Not ve|can not|Can not|gon na
|Gon na|got ta|Got ta|let 's|Let 's|c'm on|C'm on""".replace("\n", "")


@cache
def exceptions() -> dict[str, Pieces]:
    """Word without white space -> the pieces that it falls into, itself if it stays whole."""
    table: dict[str, Pieces] = {}
    for pieces in _contractions():
        table["".join(pieces)] = pieces
        bare = tuple(piece.replace("'", "") for piece in pieces)
        table["".join(bare)] = bare
    for word in REAL_WORDS:
        table.pop(word, None)
        table.pop(word.title(), None)
    table |= {"".join(pieces): pieces for pieces in map(_pieces, IRREGULAR.split("|"))}
    for hour in map(str, range(1, 13)):
        table |= {hour + half: (hour, half) for half in ("am", "a.m.", "pm", "p.m.")}
    for unit in "cfkCFK":
        table[f"°{unit}."] = ("°", unit, ".")
    table |= {word: (word,) for word in _whole()}
    return table | {_curled(word): tuple(map(_curled, table[word])) for word in table}


def _curled(word: str) -> str:
    return word.replace("'", "’")


def _whole() -> Iterator[str]:
    yield from WHOLE
    yield from ABBREVIATIONS
    yield from EMOTICONS
    yield from (letter + "." for letter in SINGLE_LETTERS)
    for word in DROPPED_G:
        for form in (word, word.title()):
            yield from (form, form + "'")


def _contractions() -> Iterator[Pieces]:
    """With their apostrophes; every one is known without them too."""
    yield from _joined(["i"], ["'m", "'m a"])
    yield from _joined(PRONOUNS, WILL_OR_WOULD)
    yield from _joined(["i", "you", "we", "they"], ["'ve"])
    yield from _joined(["you", "we", "they"], ["'re"])
    yield from _joined(["he", "she", "it", *ADVERBS, "that", "this"], ["'s"])
    yield from _joined([*ADVERBS, "that", "this", "these", "those"], WILL_OR_WOULD)
    yield from _joined([*ADVERBS, "these", "those"], ["'re", "'ve"])
    yield from _joined(NEGATED, ["n't"])
    yield from _joined([word for word in NEGATED if word not in NEVER_NEGATED_TWICE], ["n't 've"])
    yield from _joined(MODALS, ["'ve"])


def _joined(words: Iterable[str], endings: Iterable[str]) -> Iterator[Pieces]:
    for word in words:
        for form in (word, word.title()):
            for ending in endings:
                yield (form, *_pieces(ending))


def _pieces(text: str) -> Pieces:
    return tuple(text.split())
