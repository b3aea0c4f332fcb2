"""Personal data in a text replaced: e-mail and public IP addresses as in FineWeb, more by wish.

The expressions for e-mail and IPv4 addresses and their replacements are FineWeb's own
(https://huggingface.co/datasets/HuggingFaceFW/fineweb, "Personal and Sensitive Information"):
https://github.com/huggingface/datatrove/blob/a649de79c14a550dc90f48a15c025f2dd3fd3b57/src/datatrove/pipeline/formatters/pii.py
datatrove goes round its replacements over all documents that a worker sees, so what stands in one
hangs on those before it; here each document begins with the first, and workers agree.

Telephone numbers are groups of 7 to 15 digits (ITU-T E.164) that are no date; card numbers are 12
to 19 digits whose last one is right by Luhn's sum (ISO/IEC 7812-1).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import ClassVar

from llmkit.data.curation.filters import Step
from llmkit.data.documents import Document

ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
OCTET = r"(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)"
EMAIL = re.compile(
    rf"\b{ATOM}(?:\.{ATOM})*@(?:(?:{LABEL}\.)+{LABEL}"
    rf"|\[(?:{OCTET}\.){{3}}(?:{OCTET}|[A-Za-z0-9-]*[A-Za-z0-9]:)\])"
)
IPV4 = re.compile(rf"(?:{OCTET}\.){{3}}{OCTET}")
PHONE = re.compile(
    r"(?<![\w.,/@#$€£=%+-])(?<!\d:)(?:\(?(?:\+|00)[1-9]\d{0,2}\)?[ .-]?|1[ .-])?"
    r"(?:\(0?\d{1,5}\)[ .-]{0,2})?"
    r"\d{1,12}(?:[ ./-]{1,2}\d{2,8}){0,4}(?:(?: ?x| ?ext\.? ?)\d{1,6})?(?![\w%€£$]|[.,:/-]\d)"
)
CARD = re.compile(r"(?<![\w.-])(?:\d[ -]?){11,18}\d(?![\w-]|\.\d)")
DATE = re.compile(r"(?:\d{4}([-/. ])\d\d?\1\d\d?|\d\d?([-/. ])\d\d?\2(?:\d{4}|\d\d))$")
YEARS = re.compile(r"(?:1[5-9]|20)\d\d ?[-/ ] ?(?:(?:1[5-9]|20)\d\d|\d\d)$")
SOCIAL_SECURITY = re.compile(r"\d{3}-\d{2}-\d{4}$")  # of the United States
DECIMAL = re.compile(r"\d+\.\d+$")
IP_DIGITS = re.compile(r"[0-9]\.[0-9]")

NO_PHONE = (DATE, YEARS, SOCIAL_SECURITY, DECIMAL, IPV4)
EMAILS = ("email@example.com", "firstname.lastname@example.org")
IPS = (
    "22.214.171.124",
    "126.96.36.199",
    "188.8.131.52",
    "184.108.40.206",
    "220.127.116.11",
    "18.104.22.168",
)
PHONES = ("555-0100",)  # 555-0100 to 555-0199 belong to nobody
CARDS = ("0000 0000 0000 0000",)


@dataclass(frozen=True, kw_only=True)
class Pii(Step):
    """Replaces personal data; how much of each kind stands in the document's metadata, `pii`."""

    name: ClassVar[str] = "pii"

    remove_emails: bool = True
    remove_ips: bool = True
    only_remove_public_ips: bool = True
    remove_phones: bool = False
    remove_credit_cards: bool = False

    def apply(self, document: Document) -> Document:
        text, counts = self.replace(document.text)
        if text == document.text:
            return document
        return Document(text, document.id, document.metadata | {"pii": counts})

    def replace(self, text: str) -> tuple[str, dict[str, int]]:
        """The text without personal data, and the number of replacements by kind."""
        counts: dict[str, int] = {}
        if self.remove_emails and "@" in text:
            text, counts["email"] = EMAIL.subn(_in_turn(EMAILS), text)
        if self.remove_ips and IP_DIGITS.search(text):
            text, counts["ip"] = _replace(IPV4, text, self._is_wanted_ip, IPS)
        if self.remove_credit_cards:
            text, counts["credit_card"] = _replace(CARD, text, is_card, CARDS)
        if self.remove_phones:
            text, counts["phone"] = _replace(PHONE, text, is_phone, PHONES)
        return text, {kind: number for kind, number in counts.items() if number}

    def _is_wanted_ip(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:  # a leading zero
            return False
        return address.is_global or not self.only_remove_public_ips


def _in_turn(replacements: tuple[str, ...]) -> Callable[[re.Match[str]], str]:
    turns = cycle(replacements)
    return lambda _: next(turns)


def _replace(
    pattern: re.Pattern[str],
    text: str,
    valid: Callable[[str], bool],
    replacements: tuple[str, ...],
) -> tuple[str, int]:
    """As `Pattern.subn`, but only matches that are `valid` are replaced and counted."""
    number = 0
    turns = cycle(replacements)

    def replacement(match: re.Match[str]) -> str:
        nonlocal number
        if not valid(match[0]):
            return match[0]
        number += 1
        return next(turns)

    return pattern.sub(replacement, text), number


def is_card(text: str) -> bool:
    """Luhn's sum: every second digit from the right counts twice, its digits summed."""
    digits = [int(character) for character in text if character.isdigit()]
    total = sum(digits[-1::-2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return total % 10 == 0 and any(digits)


def is_phone(text: str) -> bool:
    """7 to 15 digits, marked by a plus, brackets or groups, and neither date nor span of years."""
    number = sum(character.isdigit() for character in re.split(" ?(?:x|ext)", text)[0])
    marked = text[0] in "+(" or text.startswith("00")
    least = 7 if marked or "-" in text or "." in text else 9
    grouped = marked or re.search(r"[ ./-]", text) is not None
    other = any(kind.match(text) for kind in NO_PHONE)
    return least <= number <= 15 and grouped and not other
