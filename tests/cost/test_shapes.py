"""Parameters and FLOPs: against the models of transformers, and against published figures."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from llmkit.cost.flops import flops_per_token, mfu
from llmkit.cost.shapes import shape_of
from llmkit.cost.speed import PUBLISHED

CONFIGS: list[tuple[str, dict[str, Any]]] = [
    ("gpt2", {"n_layer": 3, "n_embd": 48, "n_head": 4, "vocab_size": 77, "n_positions": 20}),
    ("gpt2", {"n_layer": 1, "n_embd": 8, "n_head": 2, "n_inner": 20, "tie_word_embeddings": False}),
    (
        "llama",
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 50,
        },
    ),
    (
        "llama",
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "tie_word_embeddings": True,
            "attention_bias": True,
            "mlp_bias": True,
            "vocab_size": 50,
        },
    ),
    ("mistral", {"hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 1}),
    (
        "qwen2",
        {
            "hidden_size": 64,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
    ),
    (
        "qwen3",
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
        },
    ),
]


@pytest.mark.parametrize(("model_type", "keys"), CONFIGS)
def test_parameters_are_those_of_the_model_itself(model_type: str, keys: dict[str, Any]) -> None:
    """Told from the recipe's keys alone, defaults read from the sources."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from llmkit.planning.models import completed

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **keys))
    shape = shape_of(completed(model_type, {"model_type": model_type, **keys}))
    assert shape is not None and shape.parameters == model.num_parameters()
    matrices = [w.numel() for n, w in model.named_parameters() if w.dim() == 2 and "emb" not in n]
    matrices = [w for w in matrices if w not in (shape.embedding, shape.position_embedding)]
    assert shape.hidden_matrices == sum(matrices)


def test_an_alias_is_the_field_itself() -> None:
    from llmkit.planning.models import completed

    shape = shape_of(completed("gpt2", {"model_type": "gpt2", "hidden_size": 64, "n_head": 2}))
    assert shape is not None and shape.width == 64 and shape.inner == 256


def test_other_families_have_no_formula() -> None:
    assert shape_of({"model_type": "mamba"}) is None


@pytest.mark.parametrize(
    ("name", "parameters", "llm_c", "nanogpt"),
    [
        # Hand-worked: 6 N + 6 L C T, and 6 (N - 1024 C) + 12 L C T, at T = 1024.
        ("124M", 124_439_808, 803_261_952, 855_166_464),
        ("350M", 354_823_168, 2_279_933_952, 2_424_637_440),
        ("774M", 774_030_080, 4_927_296_000, 5_202_547_200),
        ("1558M", 1_557_611_200, 9_817_526_400, 10_279_555_200),
    ],
)
def test_both_formulas_on_gpt2(name: str, parameters: int, llm_c: int, nanogpt: int) -> None:
    shape = next(run.shape for run in PUBLISHED if run.name == name)
    assert shape.parameters == parameters
    assert flops_per_token(shape, 1024) == llm_c
    assert flops_per_token(shape, 1024, "nanogpt") == nanogpt


def test_an_untied_embedding_is_looked_up_and_not_multiplied() -> None:
    keys = {"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 30}
    tied = shape_of({**keys, "n_positions": 16, "tie_word_embeddings": True})
    untied = shape_of({**keys, "n_positions": 16, "tie_word_embeddings": False})
    assert tied is not None and untied is not None
    assert untied.parameters == tied.parameters + 30 * 8
    assert flops_per_token(untied, 16) == flops_per_token(tied, 16)


def test_mfu_of_the_published_124m() -> None:
    """56.2 % by llm.c's formula and 59.9 % by nanoGPT's at 1.748 M tokens/s on 8 A100."""
    shape, peak = PUBLISHED[0].shape, 8 * 312e12
    assert mfu(flops_per_token(shape, 1024), 1.748e6, peak) == pytest.approx(0.562, abs=1e-3)
    found = mfu(flops_per_token(shape, 1024, "nanogpt"), 1.748e6, peak)
    assert found == pytest.approx(0.599, abs=1e-3)
