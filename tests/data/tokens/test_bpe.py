"""The tokenizer against what was published and against BPE written out by hand."""

import collections
import random

import jinja2
import pytest
import regex
from tokenizers import Regex, pre_tokenizers

from llmkit.data.tokens import bpe
from llmkit.data.tokens.tokenizer_quality import HARD_STRINGS

# As the sources in the module's docstring have them; `regex` reads them as their own engines do.
PUBLISHED = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    # tiktoken's `$` is the end of the text alone, which `regex` spells `\Z`.
    "gpt4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++\Z|\s*[\r\n]|\s+(?!\S)|\s",
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
SPLIT_STRINGS = [
    *HARD_STRINGS,
    "1234567 and 12 34",
    "a \n  ",
    "a  \n\n  b\n",
    "end \r\n\r\n  x\t\ty",
    "it's IT'S we'll 'Llama' 'd",
    "$12.50!!!\n\n?? --\r\n ok",
]
CORPUS = ["low low low low low lower lower newest newest newest newest newest newest widest"] * 2
CORPUS += ["the quick brown fox; the quicker browner foxes over the lazy dogs"] * 2
CORPUS += ["wider wider, new: it's 1234", "tests tested\n\nlowest"]


def pieces(pattern, text):
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return [piece for piece, _ in split.pre_tokenize_str(text)]


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("text", SPLIT_STRINGS)
def test_pieces_are_those_of_the_published_pattern(name, text):
    assert pieces(bpe.split_pattern(name), text) == regex.findall(PUBLISHED[name], text)


@pytest.mark.parametrize("name", PUBLISHED)
def test_pieces_of_random_texts_are_the_published_ones(name):
    letters, chance = (
        " \n\r\t\u00a0\u200b'sStTlLvVrReEmMdD\u017f09½٣aé日あ\u0301!?.,_👩",
        random.Random(0),
    )
    pattern = bpe.split_pattern(name)
    for _ in range(3000):
        text = "".join(chance.choices(letters, k=chance.randint(1, 12)))
        assert pieces(pattern, text) == regex.findall(PUBLISHED[name], text), repr(text)


def test_the_pieces_of_numbers():
    assert pieces(bpe.split_pattern("gpt4"), "a 1234567") == ["a", " ", "123", "456", "7"]
    assert pieces(bpe.split_pattern("gpt2"), "a 1234567") == ["a", " 1234567"]
    for name in bpe.PATTERNS:
        single = pieces(bpe.split_pattern(name, individual_digits=True), "a 123x 4½")
        assert single == ["a", " ", "1", "2", "3", "x", " ", "4", "½"]


def byte_level():
    """GPT-2's table from a byte to a printable character (its encoder.py, bytes_to_unicode)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


def train_by_hand(texts, num_ids, min_frequency):
    """BPE as the paper has it; of equal counts the pair of the smallest ids goes first."""
    table = byte_level()
    vocabulary = {symbol: i for i, symbol in enumerate(sorted(table.values()))}
    counts = collections.Counter(p for t in texts for p in regex.findall(PUBLISHED["gpt4"], t))
    words = [([table[b] for b in piece.encode()], count) for piece, count in counts.items()]
    merges = []
    while len(vocabulary) < num_ids:
        pairs = collections.Counter()
        for word, count in words:
            for pair in zip(word, word[1:], strict=False):
                pairs[pair] += count
        ids = {pair: (-n, vocabulary[pair[0]], vocabulary[pair[1]]) for pair, n in pairs.items()}
        best = min(ids, key=ids.get, default=None)
        if best is None or pairs[best] < min_frequency:
            break
        merges.append(best)
        vocabulary["".join(best)] = len(vocabulary)
        words = [(merge(word, best), count) for word, count in words]
    return vocabulary, merges


def merge(word, pair):
    out = []
    for symbol in word:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return out


def encode_by_hand(text, vocabulary, merges):
    ids = []
    for piece in regex.findall(PUBLISHED["gpt4"], text):
        word = [byte_level()[byte] for byte in piece.encode()]
        for pair in merges:
            word = merge(word, pair)
        ids += [vocabulary[symbol] for symbol in word]
    return ids


def trained(num_ids=290, min_frequency=2):
    return bpe.train(
        CORPUS, vocab_size=num_ids, pattern=bpe.split_pattern("gpt4"), min_frequency=min_frequency
    )


def test_vocabulary_and_ids_are_those_worked_by_hand():
    vocabulary, merges = train_by_hand(CORPUS, 280, 2)
    tokenizer = trained(280)
    assert len(merges) == 24
    assert tokenizer.get_vocab() == vocabulary
    for text in [*CORPUS, "slower widest é\n 12345"]:
        assert tokenizer.encode(text).ids == encode_by_hand(text, vocabulary, merges)


def test_training_ends_where_no_pair_is_frequent_enough():
    for min_frequency in (2, 4):
        vocabulary, _ = train_by_hand(CORPUS, 5000, min_frequency)
        assert trained(5000, min_frequency).get_vocab_size() == len(vocabulary) < 400


def test_specials_take_the_ids_after_the_vocabulary():
    fast = bpe.with_specials(trained(), None)
    names = ["<|endoftext|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    assert fast.convert_tokens_to_ids(names) == list(range(290, 296)) and len(fast) == 296
    assert (fast.bos_token, fast.eos_token, fast.pad_token) == (names[0], names[0], names[1])
    assert fast.all_special_tokens and set(fast.all_special_tokens) == set(names)
    assert fast("low<|end|>")["input_ids"][-1] == 295


def test_the_plain_encoder_leaves_specials_spelled_out():
    fast = bpe.with_specials(trained(), None)
    fast.backend_tokenizer.enable_truncation(3)
    plain = bpe.plain_encoder(fast)
    for special in bpe.SPECIALS:
        ids = plain.encode(f"low {special} new", add_special_tokens=False).ids
        assert len(ids) > 3 and max(ids) < 290
        assert plain.decode(ids, skip_special_tokens=False) == f"low {special} new"
    assert fast.convert_tokens_to_ids("<|end|>") == 295  # the copy changed nothing in the original
    assert len(fast("<|end|>")["input_ids"]) == 1


@pytest.fixture(scope="module")
def chatty():
    return bpe.with_specials(trained(), bpe.CHAT_TEMPLATE.read_text())


def test_the_chat_format_to_the_letter(chatty):
    messages = [
        {"role": "system", "content": " Be brief. "},
        {"role": "user", "content": "Hello\n"},
        {"role": "assistant", "content": "Hi"},
    ]
    text = chatty.apply_chat_template(messages, tokenize=False)
    assert text == (
        "<|endoftext|><|system|> Be brief. <|end|><|user|>Hello\n<|end|><|assistant|>Hi<|end|>"
    )
    text = chatty.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    assert text.endswith("<|user|>Hello\n<|end|><|assistant|>")


def test_the_assistant_mask_worked_by_hand(chatty):
    messages = [
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": " cé"},
        {"role": "user", "content": "d"},
        {"role": "assistant", "content": "e"},
    ]
    encoded = chatty.apply_chat_template(
        messages, return_assistant_tokens_mask=True, return_dict=True
    )
    tokens = chatty.convert_ids_to_tokens(encoded["input_ids"])
    expected = [("<|endoftext|>", 0), ("<|user|>", 0), ("a", 0), ("b", 0), ("<|end|>", 0)]
    expected += [("<|assistant|>", 0), ("Ġ", 1), ("c", 1), ("Ã", 1), ("©", 1), ("<|end|>", 1)]
    expected += [("<|user|>", 0), ("d", 0), ("<|end|>", 0)]
    expected += [("<|assistant|>", 0), ("e", 1), ("<|end|>", 1)]
    assert list(zip(tokens, encoded["assistant_masks"], strict=True)) == expected


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ({"role": "tool", "content": "x"}, "message 1: role must be .* not tool"),
        ({"role": "user", "content": None}, "message 1: content must be text"),
        ({"role": "assistant"}, "message 1: content must be text"),
    ],
)
def test_the_template_refuses_what_it_cannot_write(chatty, message, what):
    messages = [{"role": "user", "content": "hello"}, message]
    with pytest.raises(jinja2.TemplateError, match=what):
        chatty.apply_chat_template(messages, tokenize=False)
