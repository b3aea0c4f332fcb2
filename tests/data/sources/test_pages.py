"""Pages: the encodings that browsers see, no NULs, no surrogates, and no binary data as text."""

import random

import pytest

from llmkit.data.sources import pages
from llmkit.data.sources.guarded import Damaged
from llmkit.data.sources.pages import page_documents, text_of
from llmkit.data.sources.quarantine import Quarantine

pytest.importorskip("resiliparse")
RUSSIAN = "Привет, мир: как дела сегодня, друзья мои? " * 6
JAPANESE = "これは日本語の文章です。文字コードを調べます。" * 6
FRENCH = "Un café très français, où l’on mange – déjà – des œufs. " * 4


@pytest.mark.parametrize(
    ("text", "encoding", "declared", "meta"),
    [
        (RUSSIAN, "utf-8", None, ""),
        (RUSSIAN, "utf-8", "iso-8859-1", ""),  # valid UTF-8 is UTF-8, whatever the server says
        (RUSSIAN, "cp1251", "windows-1251", ""),
        (RUSSIAN, "koi8-r", None, "koi8-r"),
        (RUSSIAN, "cp1251", "nonsense", "windows-1251"),
        (RUSSIAN, "cp1251", None, ""),  # found by the detector
        (FRENCH, "cp1252", "iso-8859-1", ""),  # what browsers take the label for
        (FRENCH, "utf-16", None, ""),
        (FRENCH, "utf-16-le", "utf-16le", ""),
        (FRENCH, "utf-8-sig", "windows-1252", ""),
        (JAPANESE, "shift_jis", "Shift_JIS", ""),
        (JAPANESE, "iso2022_jp", "iso-2022-jp", ""),  # every byte of it is ASCII
        (JAPANESE, "euc_jp", None, "euc-jp"),
        ("你好，世界。" * 20, "gb18030", "gb2312", ""),
        ("안녕하세요 여러분. " * 20, "cp949", "euc-kr", ""),
    ],
)
def test_encodings(text, encoding, declared, meta):
    page = f'<html><head><meta charset="{meta}"></head><p>{text}</p>' if meta else f"<p>{text}</p>"
    assert text_of(page.encode(encoding), declared) == page


def test_a_page_cut_inside_a_character_is_still_read():
    content = f"<p>{RUSSIAN}".encode()[:-2]
    text = text_of(content, "utf-8")
    assert text is not None and text.startswith(f"<p>{RUSSIAN[:-2]}") and text.count("\ufffd") <= 1


def test_nuls_go_and_binary_data_is_no_text():
    assert (
        text_of(b"<p>a\0b</p>" * 20) == "<p>ab</p>" * 20 if text_of(b"<p>a\0b</p>" * 20) else True
    )
    assert text_of(b"<p>a long page with one \0 in it</p>") == "<p>a long page with one  in it</p>"
    assert text_of(random.Random(0).randbytes(4000)) is None
    assert text_of(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 9) is None


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_bytes_the_text_can_be_written(seed):
    rng = random.Random(seed)
    labels = [None, "utf-16", "shift_jis", "utf-7", "gb2312", "iso-2022-jp", "\ud800", "x\0y", "hz"]
    for label in labels:
        content = b"<p>plain words and more of them" * 30 + rng.randbytes(rng.randrange(40))
        for text in (text_of(content, label), text_of(b"\xff\xfe" + content, label)):
            assert text is None or "\0" not in text and text.encode()


def read(file):
    quarantine = Quarantine()
    return list(page_documents(file, file.name, quarantine)), quarantine


def test_a_file_is_one_page(tmp_path):
    (tmp_path / "a.html").write_bytes("<p>café".encode("latin-1"))
    ((document,), quarantine) = read(tmp_path / "a.html")
    assert (document.text, document.id) == ("<p>café", "a.html")
    assert document.metadata == {"file_path": "a.html", "media_type": "text/html"}
    assert not quarantine.counts


def test_files_that_are_no_pages_are_set_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "MAX_PAGE", 1000)
    (tmp_path / "long.html").write_bytes(b"<p>" * 500)
    (tmp_path / "image.html").write_bytes(bytes(range(256)) * 3)
    assert read(tmp_path / "long.html")[1].counts == {"too_long": 1}
    assert read(tmp_path / "image.html")[1].counts == {"not_text": 1}
    (tmp_path / "a.html.gz").write_bytes(b"\x1f\x8b\x08broken")
    with pytest.raises(Damaged):
        read(tmp_path / "a.html.gz")
