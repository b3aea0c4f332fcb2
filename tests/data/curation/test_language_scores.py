"""Labels and scores bit for bit as fastText gives them, on real texts and on random characters."""

import platform
import random
import zipfile
from pathlib import Path

import pytest
from real_texts import need, real_texts

from llmkit.data.curation import language_scores
from llmkit.data.curation.language import LABEL, Language, file_of, model_of, quick_model_of
from llmkit.data.curation.language_model import read_model
from llmkit.data.curation.language_scores import LanguageScores

TWO_ROUNDINGS = platform.machine() in ("x86_64", "AMD64")  # of a product and its sum
ENGLISH = "The quick brown fox jumps over the lazy dog, and then it sleeps until the morning."
FAMILIES = [(0x20, 0x7F), (0x1, 0x500), (0x800, 0xD800), (0xE000, 0x20000), (0x20, 0x21)]


@pytest.fixture(scope="module")
def quick() -> LanguageScores:
    return LanguageScores(read_model(file_of(None)))


def unsure(texts: list[str], quick: LanguageScores) -> float:
    """Share of the texts without an answer; every answer is held equal to fastText's."""
    without = 0
    for text in texts:
        line = text.replace("\n", " ")
        ((score, label),) = model_of(None).predict(line + "\n", 1, 0.0, "strict")
        found = quick.likeliest(line)
        if found is None:
            without += 1
        else:
            assert found[0] == label.removeprefix(LABEL), text
            assert found[1] == (score if TWO_ROUNDINGS else pytest.approx(score, abs=1e-6)), text
    return without / len(texts)


def random_text(chance: random.Random) -> str:
    """Of ASCII, short and long characters, control characters and many spaces."""
    points = (chance.randrange(*chance.choice(FAMILIES)) for _ in range(chance.randrange(150)))
    return "".join(map(chr, points))


def test_random_characters(quick):
    chance = random.Random(0)
    assert unsure([random_text(chance) for _ in range(1000)], quick) < 0.1


def test_real_texts(quick):
    assert unsure(real_texts()[::5], quick) < 0.1


def test_declarations_of_human_rights_in_all_languages(quick):
    (archive,) = need("nltk_corpora/udhr2.zip")
    with zipfile.ZipFile(archive) as files:
        texts = [
            files.read(name).decode("utf-8", "replace")[:1000]
            for name in files.namelist()
            if name.endswith(".txt")
        ]
    assert len(texts) > 300
    assert unsure(texts, quick) < 0.1


def test_white_space_and_marks_of_the_format(quick):
    texts = ["", " ", "a", "<", "<a>", "</s", "\0a\0b", "\x0b \r", "\x1c a\x85b \xa0", "x" * 9000]
    assert unsure([*texts, ENGLISH], quick) == 0


@pytest.mark.parametrize("word", ["</s>", "__label__de"])
def test_words_of_the_format_are_left_to_fasttext(word, quick):
    text = f"{word} {ENGLISH}"
    assert quick.likeliest(text) is None
    ((score, _),) = model_of(None).predict(text + "\n", 1, 0.0, "strict")
    assert Language().scores(text) == [("en", score)]


def test_what_is_remembered_stays_bounded(monkeypatch, quick):
    monkeypatch.setattr(language_scores, "MOST_REMEMBERED", 20)
    before = quick.likeliest(ENGLISH)
    for number in range(100):
        quick.likeliest(f"word{number} {'long' * 50}{number}")
    assert len(quick.known) < 40 and max(map(len, quick.known)) < 100
    assert quick.likeliest(ENGLISH) == before


@pytest.mark.parametrize("place", [0, 4, 28, 32, 36])  # magic, version, n-grams, loss, kind
def test_another_kind_of_model_is_left_to_fasttext(place, tmp_path: Path):
    data = bytearray(file_of(None).read_bytes())
    data[place] += 1
    (tmp_path / "other.bin").write_bytes(data)
    assert read_model(tmp_path / "other.bin") is None


def test_the_model_of_the_package_is_read():
    assert quick_model_of(None) is not None
