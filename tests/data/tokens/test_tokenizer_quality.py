"""The measures see what is broken, and count what can be counted by hand."""

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from llmkit.data.tokens import bpe
from llmkit.data.tokens.tokenizer_quality import (
    Encoded,
    EvenSample,
    longest_tokens,
    template_mask_fault,
    texts_with_specials,
)


def bytes_and(*merges):
    """A byte-level tokenizer with just these merges, given as pairs of strings."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate([*alphabet, *map("".join, merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def test_an_even_sample_keeps_every_second_fourth_eighth():
    sample = EvenSample(max_bytes=40)
    texts = [f"{i:09d}é"[-9:] for i in range(33)]  # 8 digits and a letter of two bytes: 10 bytes
    assert list(sample.watch(texts)) == texts
    assert sample.texts == texts[::16]
    assert (sample.seen, sample.bytes) == (33, 330)


def test_an_even_sample_of_little_is_all_and_of_one_giant_is_the_giant():
    small, giant = EvenSample(1000), EvenSample(5)
    assert list(small.watch(["a", "b"])) == small.texts == ["a", "b"]
    list(giant.watch(["x" * 100, "b", "c"]))
    assert giant.texts == ["x" * 100]


def test_figures_counted_by_hand():
    encoder = bytes_and(("a", "b"), ("ab", "c"), ("Ġ", "d"))
    figures = Encoded.of(encoder, ["abc abc", "é d"]).figures()
    # abc|_|abc and two bytes of é|_d: 6 tokens of 11 bytes in 4 words; 5 of 259 ids are used.
    assert figures["bytes_per_token"] == round(11 / 6, 4)
    assert figures["tokens_per_word"] == 6 / 4
    assert figures["ids_unused_in_sample"] == 259 - 5
    assert figures["longest_tokens"][:3] == ["abc", "ab", " d"]
    assert (figures["sample_documents"], figures["sample_bytes"]) == (2, 11)
    assert longest_tokens(encoder, 1) == ["abc"]


def test_a_text_that_changes_is_seen():
    encoder = bytes_and()
    assert Encoded.of(encoder, ["Big", "small", "\r\n é"]).changed() == []
    encoder.normalizer = normalizers.Lowercase()
    assert Encoded.of(encoder, ["Big", "small"]).changed() == ["Big"]


def test_a_special_from_text_is_seen():
    encoder = bytes_and()
    encoder.add_special_tokens([AddedToken(special, normalized=False) for special in bpe.SPECIALS])
    texts = ["plain", *texts_with_specials(["some words"])]
    assert texts[1:7] == list(bpe.SPECIALS) and texts[7] == "some <|endoftext|>words"
    assert Encoded.of(encoder, texts).leaking(256) == texts[1:]
    encoder.encode_special_tokens = True
    assert Encoded.of(encoder, texts).leaking(256) == []


def test_a_pattern_that_swallows_a_special_gives_it_an_id_of_the_vocabulary():
    """Why `specials_after_vocabulary` is a gate of its own."""
    tokenizer = bpe.train(["<|end|> " * 50], vocab_size=300, pattern=r"\S+|\s+")
    assert "<|end|>" in tokenizer.get_vocab()
    for name in bpe.PATTERNS:
        tokenizer = bpe.train(["<|end|> " * 50], vocab_size=300, pattern=bpe.split_pattern(name))
        assert not set(bpe.SPECIALS) & set(tokenizer.get_vocab())
        assert pre_tokenizers.Split(Regex(bpe.PATTERNS[name]), "isolated").pre_tokenize_str(
            "<|end|>"
        ) == [("<|", (0, 2)), ("end", (2, 5)), ("|>", (5, 7))]


TURNS = "{% for m in messages %}{% if m.role == 'assistant' %}A{WORDS}{% else %}U{{ m.content }}."


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("{% generation %}{{ m.content }}.{% endgeneration %}", ""),
        ("{{ m.content }}.", "marks nothing"),
        ("{% generation %}{{ m.content }}{% endgeneration %}.", "not each assistant's words"),
        ("{% generation %}A{{ m.content }}.{% endgeneration %}", "not each assistant's words"),
        ("{% generation %}{{ m.content[:4] }}.{% endgeneration %}", "not each assistant's words"),
        ("{{ raise_exception('no such thing') }}", "does not render: no such thing"),
    ],
)
def test_faulty_templates_are_told_apart(words, fault):
    tokenizer = bpe.with_specials(bytes_and(), None)
    tokenizer.chat_template = TURNS.replace("{WORDS}", words) + "{% endif %}{% endfor %}"
    found = template_mask_fault(tokenizer)
    assert fault in found and bool(found) == bool(fault)


def test_a_template_that_is_no_jinja_is_a_fault_and_the_default_is_none():
    tokenizer = bpe.with_specials(bytes_and(), "{% for %}")
    assert template_mask_fault(tokenizer).startswith("it does not render")
    tokenizer.chat_template = bpe.CHAT_TEMPLATE.read_text()
    assert template_mask_fault(tokenizer) == ""
