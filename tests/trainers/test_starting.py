"""A pretraining that begins with a trained model: its tokens, its context, its vocabulary."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import CONTEXT, WORDS, make_tokenizer
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from llmkit.errors import InputError, UserError
from llmkit.trainers.starting import (
    check_buildable,
    fresh_config,
    fresh_model,
    model_to_go_on_with,
)

IDS = len(WORDS) + 6  # of the tokenizer, its special tokens among them


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def saved(folder: Path, tokenizer: Any = None, **changes: Any) -> Path:
    torch.manual_seed(0)
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 16, "vocab_size": IDS, "n_positions": CONTEXT}
    GPT2LMHeadModel(GPT2Config(**(sizes | changes))).save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def begun(folder: Path, tokenizer: Any, length: int = CONTEXT, **config: Any) -> GPT2LMHeadModel:
    return model_to_go_on_with(folder, None, config, tokenizer, length, "pretrain")


def test_the_weights_are_those_of_the_folder(tmp_path: Path, tokenizer: Any) -> None:
    model = begun(saved(tmp_path, tokenizer), tokenizer)
    stored = GPT2LMHeadModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())
    assert model.lm_head.weight is model.transformer.wte.weight
    assert model.config.eos_token_id == tokenizer.eos_token_id


def test_weights_alone_are_enough(tmp_path: Path, tokenizer: Any) -> None:
    """OpenAI's folder may come without its tokenizer."""
    assert begun(saved(tmp_path), tokenizer).config.vocab_size == IDS


def test_ids_that_the_tokenizer_has_more_become_the_mean(tmp_path: Path, tokenizer: Any) -> None:
    model = begun(saved(tmp_path, vocab_size=IDS - 2), tokenizer)
    weight = model.transformer.wte.weight
    assert weight.shape[0] == model.config.vocab_size == IDS
    assert model.lm_head.weight is weight
    torch.testing.assert_close(weight[IDS - 2 :], weight[: IDS - 2].mean(0).expand(2, -1))
    untied = tmp_path / "untied"
    model = begun(saved(untied, vocab_size=IDS - 2, tie_word_embeddings=False), tokenizer)
    head = model.lm_head.weight
    assert not torch.equal(head, model.transformer.wte.weight)
    torch.testing.assert_close(head[IDS - 2 :], head[: IDS - 2].mean(0).expand(2, -1))


def test_a_vocabulary_padded_beyond_the_tokenizer_stays(tmp_path: Path, tokenizer: Any) -> None:
    assert begun(saved(tmp_path, vocab_size=64), tokenizer).config.vocab_size == 64


def test_another_tokenizers_ids_are_refused(tmp_path: Path, tokenizer: Any) -> None:
    folder = saved(tmp_path / "model", tokenizer)
    file = folder / "tokenizer.json"
    data = json.loads(file.read_text())
    words = data["model"]["vocab"]
    words["cat"], words["dog"] = words["dog"], words["cat"]
    file.write_text(json.dumps(data))
    assert (
        AutoTokenizer.from_pretrained(folder)("cat")["input_ids"] != tokenizer("cat")["input_ids"]
    )
    with pytest.raises(
        InputError, match="pretrain.model: .* its token . is '(dog|cat)', and .* '(cat|dog)'"
    ):
        begun(folder, tokenizer)
    shutil.rmtree(folder)


def test_a_row_longer_than_the_context_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(InputError, match="holds 16 tokens, and a row of the shards has 17"):
        begun(saved(tmp_path), tokenizer, length=17)


def test_dropout_may_be_changed_and_sizes_may_not(tmp_path: Path, tokenizer: Any) -> None:
    model = begun(saved(tmp_path), tokenizer, resid_pdrop=0.0, attn_pdrop=0.25)
    assert model.config.resid_pdrop == 0.0
    assert model.transformer.h[0].attn.attn_dropout.p == 0.25
    with pytest.raises(UserError, match="pretrain.config"):
        begun(tmp_path, tokenizer, attn_pdrop="much")
    assert begun(tmp_path, tokenizer, model_type="gpt2", resid_pdrop=0.5).config.resid_pdrop == 0.5
    with pytest.raises(UserError, match=r"pretrain\.config\.model_type: .* is gpt2; say gpt2"):
        begun(tmp_path, tokenizer, model_type="llama", attention_dropout=0.5)


def test_a_whole_number_is_a_float_too() -> None:
    config = fresh_config({"model_type": "gpt2", "layer_norm_epsilon": 1, "n_layer": 2}, "pretrain")
    assert (config.layer_norm_epsilon, config.n_layer) == (1.0, 2)
    assert isinstance(config.layer_norm_epsilon, float) and isinstance(config.n_layer, int)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"activation_function": "gelu_nwe"}, "gelu_nwe"),
        ({"n_inner": -4}, "negative dimension"),
        ({"resid_pdrop": 1.5}, "between 0 and 1"),
        ({"n_head": 0}, "modulo by zero|division"),
    ],
)
def test_what_a_model_refuses_names_stage_and_keys(wrong: dict[str, Any], said: str) -> None:
    keys = {"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_embd": 8, "vocab_size": 9} | wrong
    for build in (lambda: check_buildable(keys, "base"), lambda: fresh_model(keys, 0, "base")):
        with pytest.raises(UserError, match=rf"^base\.config: transformers refuses it: .*({said})"):
            build()


def test_checking_takes_no_memory_for_weights() -> None:
    """An embedding of 3 TB, were it there."""
    check_buildable({"model_type": "gpt2", "n_layer": 1, "vocab_size": 10**9}, "base")
