"""tiktoken is the referee: the same ids from its ranks, and from ours in its hands."""

import base64
import itertools
import json
import random
from pathlib import Path

import pytest
import tiktoken

from llmkit.data.tokens import bpe, tiktoken_ranks
from llmkit.data.tokens.tokenizer_quality import HARD_STRINGS
from llmkit.errors import InputError

DATA = Path(__file__).parents[4] / "shared" / "data"
CACHE = DATA / "tiktoken_cache"
CORPUS = ["the theme then other mother", "aaa aaaa aaaaa b abab", "naïve 漢字 1234 the"] * 3
SPACES = " \n\r\t\u00a0\u2028\u3000"
WORDS = (
    "'s",
    "'LL",
    "'\u017f",
    "123",
    "the",
    " of",
    "1234567",
    "don't",
    " \n  ",
    "ǅ",
    "é",
    "\u0301",
)


def random_text(chance):
    """Up to 24 characters or words from all of Unicode, spaces and ASCII more often."""
    return "".join(
        chance.choice(
            (
                chance.choice(SPACES),
                chr(chance.randint(32, 126)),
                chance.choice(WORDS),
                chr(chance.randint(0x80, 0x2FFF)),
                chr(chance.choice((chance.randint(0, 0xD7FF), chance.randint(0xE000, 0x10FFFF)))),
            )
        )
        for _ in range(chance.randint(1, 24))
    )


def by_search(text, ranks):
    """tiktoken's rule written out: join the neighbours of the lowest rank, leftmost first."""
    parts = [text[i : i + 1] for i in range(len(text))]
    while len(parts) > 1 and text not in ranks:
        unions = [(ranks.get(a + b), i) for i, (a, b) in enumerate(itertools.pairwise(parts))]
        known = [union for union in unions if union[0] is not None]
        if not known:
            break
        at = min(known)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [ranks[text]] if text in ranks else [ranks[part] for part in parts]


@pytest.fixture(scope="module")
def trained():
    return bpe.train(CORPUS, vocab_size=300, pattern=bpe.split_pattern("gpt4"))


@pytest.fixture(scope="module")
def written(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "tiktoken"
    tiktoken_ranks.write_encoding(folder, trained, bpe.split_pattern("gpt4"), bpe.SPECIALS)
    return folder


def test_the_merges_are_read_back_out_of_the_ranks(trained):
    ranks = {token: i for i, token in enumerate(tiktoken_ranks.tokens_of(trained))}
    merges = tiktoken_ranks.merges_of(ranks)
    assert merges == tiktoken_ranks.own_merges(trained) and len(merges) == len(ranks) - 256 > 20


def test_a_token_that_no_join_reaches_is_found_whole():
    alone = {bytes([i]): i for i in range(256)} | {b"ab": 256, b"xyz": 257, b"abc": 258}
    assert tiktoken_ranks.merges_of(alone) == [(b"a", b"b"), (b"ab", b"c")]
    tokenizer = tiktoken_ranks.from_ranks(alone, bpe.split_pattern("gpt2"))
    for text in ("xyz", "xyzz", "abc", "abab", "aabc"):
        assert tokenizer.encode(text).ids == by_search(text.encode(), alone)


def test_random_vocabularies_give_tiktokens_ids():
    """Ranks that no training made: random joins, in a random order of bytes."""
    chance = random.Random(0)
    for _ in range(40):
        tokens = [bytes([byte]) for byte in chance.sample(range(256), 256)]
        alphabet = [b"a", b"b", b"c"]
        for _ in range(30):
            token = chance.choice(alphabet) + chance.choice(alphabet)
            if token not in alphabet:
                alphabet.append(token)
        ranks = {token: i for i, token in enumerate([*tokens, *alphabet[3:]])}
        tokenizer = tiktoken_ranks.from_ranks(ranks, bpe.split_pattern("gpt2"))
        for _ in range(60):
            text = "".join(chance.choices("abc", k=chance.randint(1, 14)))
            assert tokenizer.encode(text).ids == by_search(text.encode(), ranks), (text, ranks)


def test_tiktoken_reads_what_is_written(trained, written):
    encoding = json.loads((written / "encoding.json").read_text())
    theirs = tiktoken.Encoding(
        "own", mergeable_ranks=tiktoken_ranks.read_ranks(written / "ranks.tiktoken"), **encoding
    )
    chance = random.Random(1)
    texts = [*HARD_STRINGS, *CORPUS, *(random_text(chance) for _ in range(300))]
    for text in texts:
        assert theirs.encode_ordinary(text) == trained.encode(text).ids
    assert theirs.encode("the<|end|>", allowed_special="all")[-1] == trained.get_vocab_size() + 5


def test_ranks_come_back_as_the_same_tokenizer(trained, written):
    ranks = tiktoken_ranks.read_ranks(written / "ranks.tiktoken")
    again = tiktoken_ranks.from_ranks(ranks, bpe.split_pattern("gpt4"))
    assert again.get_vocab() == trained.get_vocab()
    assert tiktoken_ranks.token_sizes(again)[:2].tolist() == [1, 1]
    assert tiktoken_ranks.token_sizes(again).sum() == sum(map(len, ranks))


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (b"YQ==\n", ":1: is no rank"),
        (b"YQ== 0\nno-base64! 1\n", ":2: is no rank"),
        (b"YQ== 0\n", "byte 0 has no rank"),
    ],
)
def test_files_that_are_no_ranks(tmp_path, lines, what):
    (tmp_path / "x.tiktoken").write_bytes(lines)
    with pytest.raises(InputError, match=what):
        tiktoken_ranks.read_ranks(tmp_path / "x.tiktoken")


def test_holes_among_the_ranks_are_refused(tmp_path):
    lines = [base64.b64encode(bytes([i])) + b" %d" % i for i in range(256)]
    (tmp_path / "x.tiktoken").write_bytes(b"\n".join([*lines, b"YWI= 300"]))
    with pytest.raises(InputError, match="are not 0, 1, 2"):
        tiktoken_ranks.read_ranks(tmp_path / "x.tiktoken")
    with pytest.raises(InputError, match="no such file"):
        tiktoken_ranks.read_ranks(tmp_path / "nowhere")


def test_published_encodings_are_those_of_tiktoken():
    from tiktoken_ext import openai_public

    for name, known in tiktoken_ranks.PUBLISHED.items():
        source = Path(openai_public.__file__).read_text()
        assert known.sha256 in source and known.file in source, name
    assert tiktoken_ranks.published("nonsense") is None


@pytest.mark.slow
def test_letters_marks_and_numbers_are_the_same_in_both_libraries():
    """Unicode grows: a character that only one of them knew would be cut differently."""
    everything = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    single = {bytes([i]): i for i in range(256)}
    from tokenizers import Regex, pre_tokenizers

    for kind in (r"\p{L}", r"\p{N}", r"\s", r"\p{M}"):
        theirs = tiktoken.Encoding(
            "x", pat_str=f"{kind}+", mergeable_ranks=single, special_tokens={}
        )
        known = theirs.decode(theirs.encode_ordinary(everything))
        split = pre_tokenizers.Split(Regex(f"{kind}+"), "removed")
        rest = "".join(piece for piece, _ in split.pre_tokenize_str(everything))
        assert set(known) == set(everything) - set(rest), kind


@pytest.fixture(scope="module", params=["gpt2", "cl100k_base"])
def published(request):
    if not CACHE.is_dir():
        pytest.skip("there is no shared/data/tiktoken_cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(CACHE))
        theirs = tiktoken.get_encoding(request.param)
        ranks = tiktoken_ranks.ranks_of(request.param)
    known = tiktoken_ranks.PUBLISHED[request.param]
    assert len(ranks) == known.learned and known.specials == theirs._special_tokens
    ours = tiktoken_ranks.from_ranks(ranks, bpe.split_pattern(known.pattern))
    assert len(tiktoken_ranks.merges_of(ranks)) == known.learned - 256  # none out of reach
    return ours, theirs


@pytest.mark.slow
def test_ids_of_100_000_random_strings_are_tiktokens(published):
    ours, theirs = published
    chance = random.Random(2)
    texts = [random_text(chance) for _ in range(100_000)]
    for text, encoding in zip(texts, ours.encode_batch_fast(texts), strict=True):
        assert encoding.ids == theirs.encode_ordinary(text), repr(text)


@pytest.mark.slow
def test_ids_of_real_documents_are_tiktokens(published):
    ours, theirs = published
    files = [DATA / "c4_llamafactory" / "c4_demo.jsonl", DATA / "splits" / "dclm_majority.jsonl"]
    lines = [line for file in files for line in file.read_bytes().split(b"\n") if line]
    texts = [json.loads(line)["text"] for line in lines]
    texts += [p.read_text(errors="replace") for p in sorted(DATA.glob("gutenberg/[AF]*.txt"))]
    texts += [p.read_text(errors="replace") for p in sorted(DATA.glob("wikitext2/*.txt"))]
    for text, encoding in zip(texts, ours.encode_batch_fast(texts), strict=True):
        assert encoding.ids == theirs.encode_ordinary(text), text[:80]


def test_o200ks_pattern_cuts_as_tiktokens(trained):
    """Its ranks are seldom at hand; ours, with its pattern, are cut as tiktoken cuts."""
    from tiktoken_ext import openai_public

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", lambda *a, **k: {})
        published = openai_public.o200k_base()
    assert published["special_tokens"] == tiktoken_ranks.PUBLISHED["o200k_base"].specials
    single = {bytes([i]): i for i in range(256)}
    merged = {
        a + b for a, b in itertools.product([b"a", b"e", b"A", b"'", b"s", b" ", b"\n"], repeat=2)
    }
    ranks = single | {token: 256 + i for i, token in enumerate(sorted(merged))}
    theirs = tiktoken.Encoding(
        "x", pat_str=published["pat_str"], mergeable_ranks=ranks, special_tokens={}
    )
    ours = tiktoken_ranks.from_ranks(ranks, bpe.split_pattern("o200k"))
    chance = random.Random(3)
    letters = "aeAEsS' \n/1ǅé\u0301ſ漢\u2028"
    texts = ["".join(chance.choices(letters, k=chance.randint(1, 12))) for _ in range(2000)]
    for text in [*texts, *HARD_STRINGS, *(random_text(chance) for _ in range(1000))]:
        assert ours.encode(text).ids == theirs.encode_ordinary(text), repr(text)
