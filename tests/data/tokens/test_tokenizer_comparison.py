"""The table's figures by hand and by tiktoken; the picture says every byte."""

import base64

import tiktoken

from llmkit.data.documents import Document
from llmkit.data.tokens import bpe, tiktoken_ranks
from llmkit.data.tokens import tokenizer_comparison as comparison
from llmkit.data.tokens.tokenizer_quality import HARD_STRINGS

TEXTS = ["the theme, the 漢字", "other mother"] * 3


def tokenizer():
    return bpe.train(TEXTS, vocab_size=270, pattern=bpe.split_pattern("gpt4"))


def ranks():
    return {token: i for i, token in enumerate(tiktoken_ranks.tokens_of(tokenizer()))}


def test_tokens_are_counted_as_tiktoken_counts_them(monkeypatch):
    pattern = bpe.split_pattern("gpt4")
    theirs = tiktoken.Encoding("x", pat_str=pattern, mergeable_ranks=ranks(), special_tokens={})
    texts = [*HARD_STRINGS, *TEXTS, "thethethe" * 50]
    due = sum(len(theirs.encode_ordinary(text)) for text in texts)
    assert tiktoken_ranks.count_tokens(texts, ranks(), pattern) == due
    monkeypatch.setattr(tiktoken_ranks, "LONGEST_PIECE", 100)  # 450 letters have four seams
    assert 0 <= tiktoken_ranks.count_tokens(texts, ranks(), pattern) - due <= 4 + 2


def test_domains_are_dumps_or_languages_and_then_the_probes():
    documents = [Document(text=f"t{i}", id="", metadata={"dump": "CC-1"}) for i in range(3)]
    documents += [Document(text="u", id="", metadata={"language": "de"}), Document(text="v", id="")]
    domains = comparison.by_domain(documents)
    assert list(domains)[:3] == ["CC-1", "de", "documents"]
    assert domains["CC-1"] == ["t0", "t1", "t2"]
    probes = [name for name in domains if name.startswith("probe: ")]
    assert {"probe: english", "probe: code", "probe: korean", "probe: mathematics"} <= set(probes)


def test_a_row_worked_by_hand():
    (row,) = comparison.compared(tokenizer(), {"one": ["é é"]}, {"cl100k_base": ranks()})
    # Five bytes, of which no two are joined by these merges, in two words.
    assert (row["bytes"], row["words"]) == (5, 2)
    assert row["bytes_per_token"] == {"own": 1.0, "cl100k_base": 1.0}
    assert row["tokens_per_word"] == {"own": 2.5, "cl100k_base": 2.5}
    assert comparison.figures([row]) == {
        "bytes_per_token/one": 1.0,
        "bytes_per_token/one/cl100k_base": 1.0,
    }


def test_the_picture_says_every_byte():
    (cut,) = comparison.picture(tokenizer(), {"one": ["the 語"]})
    assert [text for text, _ in cut["tokens"]] == ["the", " ", "\\xe8", "\\xaa", "\\x9e"]
    assert [tokenizer().decode([i]) for _, i in cut["tokens"][:2]] == ["the", " "]


def test_what_is_not_on_this_machine_is_left_out_with_a_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    found, left_out = comparison.references()
    assert found == {} and [line.split()[0] for line in left_out] == ["gpt2", "cl100k_base"]
    # A file under the right name and with other bytes is not taken for it.
    import hashlib

    url = tiktoken_ranks.STORE + "cl100k_base.tiktoken"
    lines = [base64.b64encode(bytes([i])) + b" %d" % i for i in range(256)]
    (tmp_path / hashlib.sha1(url.encode()).hexdigest()).write_bytes(b"\n".join(lines))
    assert tiktoken_ranks.cached_file("cl100k_base") is None
