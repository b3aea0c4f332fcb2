"""What no model can have in its configuration; the ranges are held against torch and the models."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from llmkit.stage import Facts
from llmkit.trainers.model_keys import (
    COUNTS,
    config_problems,
    is_dropout,
    model_problems,
    shape_problems,
)


def told(**config: Any) -> list[str]:
    return [str(problem) for problem in config_problems(config)]


@pytest.mark.parametrize("key", COUNTS)
def test_counts_are_positive(key: str) -> None:
    assert told(**{key: 1}) == told(**{key: None}) == []
    for value in (0, -2):
        assert told(**{key: value}) == [f"config.{key}: {value} is not positive"]


@pytest.mark.parametrize("key", ["resid_pdrop", "attn_pdrop", "attention_dropout"])
def test_dropout_is_a_share_below_one(key: str) -> None:
    import torch

    assert is_dropout(key) and told(**{key: 0}) == told(**{key: 0.999}) == []
    for value in (-0.1, 1.5):
        with pytest.raises(ValueError, match="between 0 and 1"):
            torch.nn.Dropout(value)
        assert told(**{key: value}) == [f"config.{key}: {value} is no share from 0 up and below 1"]
    assert told(**{key: 1.0}), "nothing would be left to train"


def test_small_figures_are_no_negative_ones() -> None:
    assert told(initializer_range=5, layer_norm_epsilon=1, rms_norm_eps=0.0) == []
    assert told(initializer_range=-0.02) == [
        "config.initializer_range: -0.02 is no number from 0 up"
    ]
    assert told(rms_norm_eps=float("inf")) != []


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_weights_are_float32(key: str) -> None:
    assert told(**{key: "float32"}) == told(**{key: None}) == []
    for word in ("bfloat16", "float16", "auto"):
        (what,) = told(**{key: word})
        assert what.startswith(f"config.{key}: {word}: weights are trained in float32")
        assert "args.bf16" in what


def _trains(config: dict[str, Any]) -> bool:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    more = {"vocab_size": 20, "num_hidden_layers": 1, "intermediate_size": 8, "pad_token_id": 0}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config, **more))
    try:
        model(input_ids=torch.zeros(1, 3, dtype=torch.long))
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "starcoder2"])
@pytest.mark.parametrize("shared", [1, 3, 4, 6, 12, None, "unset"])
def test_shared_heads_divide_the_others_as_the_models_need(model_type: str, shared: Any) -> None:
    """Unset is not the same as None: mistral then has 8, qwen2 32, and llama as many as heads."""
    config = {"model_type": model_type, "hidden_size": 24, "num_attention_heads": 6}
    config |= {} if shared == "unset" else {"num_key_value_heads": shared}
    if shared is None and model_type != "llama":
        return  # refused as no whole number, before
    told = [str(problem) for problem in shape_problems(config, Facts())]
    assert (told == []) == _trains(config), told


def test_what_is_said_of_shared_heads() -> None:
    def said(**config: Any) -> list[str]:
        return [str(problem) for problem in shape_problems(config, Facts())]

    llama = {"model_type": "llama", "hidden_size": 24, "num_attention_heads": 6}
    assert said(**llama, num_key_value_heads=4) == [
        "config.num_key_value_heads: 4 does not divide num_attention_heads 6; try 3"
    ]
    assert said(model_type="mistral", hidden_size=24, num_attention_heads=6) == [
        "config.num_attention_heads: 6 is no multiple of num_key_value_heads, which mistral sets"
        " to 8; give num_key_value_heads too: 6, say"
    ]
    assert said(**llama, num_key_value_heads=0) == []  # which is told as no count
    latent = {"model_type": "deepseek_v3", "hidden_size": 24, "num_attention_heads": 6}
    for config in (latent, latent | {"num_key_value_heads": 4}):
        assert said(**config) == [] and _trains(config)


def test_beside_a_model_only_what_its_weights_leave_open() -> None:
    free = {"resid_pdrop": 0.0, "attention_dropout": 0.1, "use_cache": False, "model_type": "llama"}
    assert list(model_problems("base", free, Facts(), Facts())) == []
    settled = [
        "activation_function",
        "scale_attn_weights",
        "layer_norm_epsilon",
        "scale_attn_by_inverse_layer_idx",
        "reorder_and_upcast_attn",
        "initializer_range",
        "rope_parameters",
        "dtype",
        "n_layer",
    ]
    found = list(model_problems("base", dict.fromkeys(settled, 1), Facts(), Facts()))
    assert [problem.path for problem in found] == [("config", key) for key in settled]
    (wrong,) = model_problems("base", {"resid_pdrop": 1.5}, Facts(), Facts())
    assert wrong.path == ("config", "resid_pdrop") and wrong.what.startswith("1.5 is no share")
    assert {(p.what, p.remedy) for p in found} == {("is what base is already", "leave it out")}


def test_checking_imports_no_library() -> None:
    code = (
        "import sys; from llmkit.trainers.model_keys import config_problems;"
        "from llmkit.trainers.schedules import schedule_problems;"
        "heavy = {'torch', 'transformers', 'numpy'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
