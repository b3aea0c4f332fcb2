"""What validates depends on the text alone."""

import hashlib

import pytest

from llmkit.data.documents import Document, write_documents
from llmkit.data.tokens.holdout import divide, text_hash
from llmkit.errors import InputError


def corpus(folder, texts):
    documents = [Document(text=text, id=str(i)) for i, text in enumerate(texts)]
    write_documents(folder / "documents" / "00000.parquet", documents)
    return folder


def test_the_hash_is_blake2b_of_the_utf8_bytes():
    expected = hashlib.blake2b("é".encode(), digest_size=8).hexdigest()
    assert text_hash("é") == int(expected, 16)


def test_the_fraction_is_met_and_the_sides_are_told_apart(tmp_path):
    texts = [f"document number {i}" for i in range(4000)]
    folder = corpus(tmp_path, texts)
    holdout = divide(folder, 0.1, "test")
    sides = {split: list(holdout.texts(folder, split)) for split in ("train", "validation")}
    assert sorted(sides["train"] + sides["validation"]) == sorted(texts)
    assert sides["train"] == [text for text in texts if text in set(sides["train"])]
    # Binomial: 400 with a standard deviation of 19.
    assert 320 < len(sides["validation"]) < 480
    for split, side in sides.items():
        assert holdout.documents[split] == len(side)
        assert holdout.bytes[split] == sum(len(text.encode()) for text in side)


def test_order_and_company_do_not_matter(tmp_path):
    texts = [f"text {i}" for i in range(500)]
    one = corpus(tmp_path / "one", texts)
    other = corpus(tmp_path / "other", list(reversed(texts)) + [f"more {i}" for i in range(500)])
    held = set(divide(one, 0.2, "test").texts(one, "validation"))
    assert held == set(divide(other, 0.2, "test").texts(other, "validation")) & set(texts)


def test_equal_texts_never_stand_on_both_sides(tmp_path):
    folder = corpus(tmp_path, [f"text {i % 50}" for i in range(500)])
    holdout = divide(folder, 0.3, "test")
    train, held = (set(holdout.texts(folder, split)) for split in ("train", "validation"))
    assert train and held and not train & held


@pytest.mark.parametrize("texts", [["a", "b", "ü c"], ["a", "b", "ü c", "a", "b", "ü c"]])
def test_a_small_corpus_holds_out_the_smallest_hash(tmp_path, texts):
    folder = corpus(tmp_path, texts)
    holdout = divide(folder, 1e-9, "test")
    smallest = min(texts, key=text_hash)
    held = [text for text in texts if text == smallest]
    assert list(holdout.texts(folder, "validation")) == held
    assert holdout.documents == {"train": len(texts) - len(held), "validation": len(held)}
    assert holdout.bytes["validation"] == len("".join(held).encode())
    assert sum(holdout.bytes.values()) == len("".join(texts).encode())


def test_a_fraction_of_nothing_holds_out_nothing(tmp_path):
    folder = corpus(tmp_path, ["a", "b"])
    assert divide(folder, 0.0, "test").documents == {"train": 2, "validation": 0}


@pytest.mark.parametrize(
    ("texts", "what"), [([], "holds no document"), (["same"] * 3, "none of its 3 documents")]
)
def test_nothing_to_train_on_is_said(tmp_path, texts, what):
    with pytest.raises(InputError, match=what):
        divide(corpus(tmp_path, texts), 0.01, "test")
