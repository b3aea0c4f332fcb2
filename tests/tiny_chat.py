"""A tokenizer and a model small enough to be made inside a test, in llmkit's own chat format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llmkit

SPECIALS = ["<|endoftext|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
TEMPLATE = (Path(llmkit.__file__).parent / "data/tokens/templates/chat.jinja").read_text(
    encoding="utf-8"
)
TEXTS = [
    "What is the colour of the sky over the town? The sky is blue, and the sea is blue too.",
    "Who bakes the bread in the village? Anna bakes the bread. I do not know who that is.",
]


def tiny_tokenizer(template: str | None = TEMPLATE) -> Any:
    """Byte-level BPE of about 300 tokens with the contract's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=306, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(TEXTS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=SPECIALS[0],
        eos_token=SPECIALS[0],
        pad_token=SPECIALS[1],
    )
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIALS[2:]})
    tokenizer.chat_template = template
    return tokenizer


def ids_by_hand(tokenizer: Any, messages: list[dict[str, str]], asks: bool = False) -> list[int]:
    """llmkit's chat format turn by turn; what a message holds is text, whatever it spells.

    (`sanitize_control_tokens` of `apply_chat_template` does it too, in newer versions only.)
    """
    special = tokenizer.convert_tokens_to_ids
    ids = [tokenizer.bos_token_id]
    for message in messages:
        text = tokenizer(message["content"], split_special_tokens=True)["input_ids"]
        ids += [special(f"<|{message['role']}|>"), *text, special("<|end|>")]
    return [*ids, special("<|assistant|>")] if asks else ids


def tiny_model(tokenizer: Any, context: int = 64, seed: int = 0) -> Any:
    """GPT-2 of one layer and width 32 without dropout, weights drawn from `seed`."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=context,
        n_layer=1,
        n_head=2,
        n_embd=32,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return GPT2LMHeadModel(config).eval()


def tiny_folder(path: Path, context: int = 64, template: str | None = TEMPLATE) -> Path:
    """A model folder with its tokenizer, as the pretrain stage leaves one."""
    from llmkit.model import without_bars

    tokenizer = tiny_tokenizer(template)
    with without_bars():
        tiny_model(tokenizer, context).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
