"""Byte-level BPE as one trains it today: four published split patterns, specials after training.

Text is cut into pieces by a regular expression, the UTF-8 bytes of a piece are its first symbols,
and the most frequent pair of neighbours becomes a new symbol until the vocabulary is full
(Sennrich et al., https://arxiv.org/abs/1508.07909; on bytes: the GPT-2 report).

Where the patterns come from:
  gpt2    https://github.com/openai/gpt-2/blob/master/src/encoder.py
  gpt4    cl100k_base, https://github.com/openai/tiktoken/blob/main/tiktoken_ext/openai_public.py
  llama3  https://github.com/meta-llama/llama3/blob/main/llama/tokenizer.py
  o200k   o200k_base, in the same file as cl100k_base

Two spellings of gpt4 differ from tiktoken's, because `tokenizers` reads patterns with Oniguruma:
there `{1,3}+` is no possessive quantifier but a repeated one (it makes one piece of `1234567`), and
`$` matches before every line feed, so `\\z` says "end of text".
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    from llmkit.data.tokens.vocabulary import Layout

PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++\z|\s*[\r\n]|\s+(?!\S)|\s",
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
NUMBERS = {name: r"\p{N}{1,3}" for name in PATTERNS} | {"gpt2": r" ?\p{N}+"}

END_OF_TEXT, PAD, END_OF_TURN = "<|endoftext|>", "<|pad|>", "<|end|>"
SPECIALS = (END_OF_TEXT, PAD, "<|system|>", "<|user|>", "<|assistant|>", END_OF_TURN)
NUM_BYTES = 256  # a symbol for every byte, so that any text can be written

CHAT_TEMPLATE = Path(__file__).parent / "templates" / "chat.jinja"


def split_pattern(name: str, individual_digits: bool = False) -> str:
    """The pattern called `name`, with every digit a piece of its own where asked."""
    pattern = PATTERNS[name]
    return pattern.replace(NUMBERS[name], r"\p{N}") if individual_digits else pattern


def train(
    texts: Iterable[str],
    *,
    vocab_size: int,
    pattern: str,
    min_frequency: int = 2,
    show_progress: bool = False,
) -> Tokenizer:
    """Learn a vocabulary of `vocab_size` ids, bytes included and specials not.

    Fewer ids come out where the texts run out of pairs that are seen `min_frequency` times.
    """
    from tokenizers import models, pre_tokenizers, trainers

    tokenizer = byte_level(models.BPE(), pattern)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        # Special tokens given to the trainer would take the first ids; ours stand after the last.
        special_tokens=[],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=show_progress,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def byte_level(model: models.BPE, pattern: str) -> Tokenizer:
    """A tokenizer that cuts text by `pattern` and gives the bytes of each piece to `model`."""
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def with_specials(
    tokenizer: Tokenizer, chat_template: str | None, layout: Layout | None = None
) -> PreTrainedTokenizerFast:
    """Give the specials the ids after the vocabulary, and the whole a transformers' face.

    Without a layout they are SPECIALS, one after another.
    """
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    added = list(SPECIALS) if layout is None else layout.added()
    tokenizer.add_special_tokens([AddedToken(s, normalized=False) for s in added])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=PAD if PAD in added else None,
        extra_special_tokens=[s for s in added if s not in (END_OF_TEXT, PAD)],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = chat_template
    return fast


def num_ids(tokenizer: PreTrainedTokenizerBase) -> int:
    """The rows that an embedding needs for this tokenizer: its largest id, and one.

    `len(tokenizer)` counts tokens, which is less where some ids are not taken.
    """
    return int(max(tokenizer.get_vocab().values())) + 1


def plain_encoder(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """A copy for documents: a special token's spelling inside a text stays text, nothing is added.

    Encode with `add_special_tokens=False` all the same, for tokenizers whose post-processor adds a
    beginning of text.
    """
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    encoder.no_truncation()
    encoder.no_padding()
    encoder.encode_special_tokens = True
    return encoder
