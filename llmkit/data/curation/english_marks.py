"""The marks that spaCy's English tokenizer takes off a word, and those that it cuts a word at.

Facts about spaCy 3.8, as regular expressions of the same language but a faster form: characters by
themselves stand in one class, and what must stand before a mark is looked at after the mark is
found. https://github.com/explosion/spaCy/blob/v3.8.7/spacy/lang/punctuation.py, `char_classes.py`
and `tokenizer_exceptions.py` beside it (the URL).
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from llmkit.data.curation import english_letters as letters

# Each by itself; all but the quotation marks are those that `_suffixes` lets stand before a stop.
QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉\u2329\u232a⟦⟧"
SINGLE = r"…,:;!?¿؟¡()\[\]{}<>_#*&。？！，、；：～·।،۔؛٪" + QUOTES
CURRENCY = "$£€¥฿₽﷼₴₠₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₵₶₷₸₹₺₻₼₾₿"
UNITS = """
km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s
km/h kmh mph hPa Pa mbar mb MB kb KB gb GB tb TB T G M K % км км² км³ м м² м³ дм дм² дм³ см см²
см³ мм мм² мм³ нм кг г мг м/с км/ч кПа Па мбар Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ тбكم كم² كم³ م
م² م³ سم سم² سم³ مم مم² مم³ كم غرام جرام جم كغ ملغ كوب اكواب
""".split()


class Marks(NamedTuple):
    """Compiled: what comes off the front and the back of a chunk, where it is cut, and URLs."""

    prefix: re.Pattern[str]
    suffix: re.Pattern[str]
    infix: re.Pattern[str]
    url: re.Pattern[str]


@cache
def marks() -> Marks:
    """Compiled on first use, in about 30 ms."""
    single = SINGLE + letters.within(letters.ICONS)
    return Marks(
        prefix=re.compile(rf"[{single}§%=—–{CURRENCY}]|\+(?![0-9])|\.\.+|(?:US|[CA])\$"),
        suffix=re.compile(f"(?:{'|'.join(_suffixes(single))})$"),
        infix=re.compile("|".join(_infixes())),
        url=re.compile(_url()),
    )


def _suffixes(single: str) -> list[str]:
    lower, upper = letters.lower_letters(), letters.upper_letters()
    return [
        f"[{single}—–]",
        "……",
        "['’][sS]",
        r"\+(?<=[0-9]\+)",
        rf"\.(?<=[0-9%²\-+|{lower}{SINGLE}]\.)",
        rf"\.(?<=[{upper}][{upper}]\.)",
        f"(?<=[0-9])(?:[{CURRENCY}]|(?:US|[CA])\\$|{'|'.join(UNITS)})",
    ]


def _infixes() -> list[str]:
    letter, lower, upper = letters.letters(), letters.lower_letters(), letters.upper_letters()
    return [
        r"\.\.+",
        f"[…{letters.within(letters.ICONS)}]",
        r"[+\-*^](?<=[0-9].)(?=[0-9\-])",
        rf"\.(?<=[{lower}{QUOTES}].)(?=[{upper}{QUOTES}])",
        f",(?<=[{letter}].)(?=[{letter}])",
        f"-(?<=[{letter}0-9].)-{{0,2}}(?=[{letter}])",
        f"—(?<=[{letter}0-9].)—?(?=[{letter}])",
        f"[–~:<>=/](?<=[{letter}0-9].)(?=[{letter}])",
    ]


def _url() -> str:
    """A whole chunk that is a URL, an e-mail address or a host: scheme and user may be absent."""
    inner = r"A-Za-z0-9\u00a1-\uffff"
    private = (
        r"(?!(?:10|127)(?:\.\d{1,3}){3})(?!(?:169\.254|192\.168)(?:\.\d{1,3}){2})"
        r"(?!172\.(?:1[6-9]|2\d|3[01])(?:\.\d{1,3}){2})"
    )
    address = (
        r"(?:[1-9]\d?|1\d\d|2[01]\d|22[0-3])(?:\.(?:1?\d{1,2}|2[0-4]\d|25[0-5])){2}"
        r"\.(?:[1-9]\d?|1\d\d|2[0-4]\d|25[0-4])"
    )
    host = rf"(?:(?:[{inner}][{inner}_-]{{0,62}})?[{inner}]\.)+[{letters.lower_letters()}]{{2,63}}"
    return rf"(?:[\w+\-.]{{2,}}://)?(?:\S+@)?(?:{private}{address}|{host})(?::\d{{2,5}})?(?:[/?#]\S*)?$"
