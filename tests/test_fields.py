"""The tables read from source text are held equal to the real classes."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys

import pytest

from llmkit.fields import ACTIVATION_KEYS, CLASSES, config_fields, fields_of, model_types


def real(name: str) -> type:
    module, cls = name.split(".")
    return getattr(importlib.import_module(module), cls)


@pytest.mark.parametrize("name", [n for n in CLASSES if n != "transformers.GenerationConfig"])
def test_fields_equal_those_of_the_real_dataclass(name: str) -> None:
    assert set(fields_of(name)) == {field.name for field in dataclasses.fields(real(name))}


def test_generation_fields_equal_the_real_attributes() -> None:
    attributes = {name for name in vars(real("transformers.GenerationConfig")()) if name[0] != "_"}
    assert set(fields_of("transformers.GenerationConfig")) == attributes


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "qwen3", "gpt_neox", "mistral"])
def test_config_fields_equal_the_real_ones_and_their_aliases(model_type: str) -> None:
    cls = type(importlib.import_module("transformers").AutoConfig.for_model(model_type))
    names = {field.name for field in dataclasses.fields(cls)} | set(cls.attribute_map)
    assert set(config_fields(model_type)) == names


def test_defaults_of_the_real_classes_are_accepted() -> None:
    """A type table that refuses a class's own default would refuse a recipe that says it."""
    for name in CLASSES:
        if name == "transformers.GenerationConfig":
            continue
        for field in dataclasses.fields(real(name)):
            if field.default is not dataclasses.MISSING and not hasattr(field.default, "value"):
                kind = fields_of(name)[field.name]
                assert kind.accepts(field.default), f"{name}.{field.name}: {field.default!r}"


@pytest.mark.parametrize(
    ("name", "key", "value", "accepted"),
    [
        ("trl.SFTConfig", "learning_rate", 1, True),
        ("trl.SFTConfig", "learning_rate", "1e-4", False),
        ("trl.SFTConfig", "max_steps", 2.5, False),
        ("trl.SFTConfig", "max_steps", True, False),
        ("trl.SFTConfig", "bf16", 1, False),
        ("trl.SFTConfig", "lr_scheduler_type", "cosine", True),
        ("trl.SFTConfig", "lr_scheduler_type", "cosin", False),
        ("trl.SFTConfig", "save_strategy", "steps", True),
        ("peft.LoraConfig", "target_modules", ["c_attn"], True),
        ("peft.LoraConfig", "bias", "lora_only", True),
        ("peft.LoraConfig", "bias", "some", False),
        ("transformers.GenerationConfig", "max_new_tokens", 8, True),
        ("transformers.GenerationConfig", "max_new_tokens", "many", False),
    ],
)
def test_types(name: str, key: str, value: object, accepted: bool) -> None:
    assert fields_of(name)[key].accepts(value) is accepted


def test_every_scheduler_of_transformers_is_a_word() -> None:
    from transformers import SchedulerType

    words = fields_of("transformers.TrainingArguments")["lr_scheduler_type"].words
    assert set(words) == {member.value for member in SchedulerType}


def test_activations_are_those_of_transformers() -> None:
    from transformers.activations import ACT2FN

    for kind, key in (("gpt2", "activation_function"), ("llama", "hidden_act")):
        field = config_fields(kind)[key]
        assert set(field.words) == set(ACT2FN)
        assert field.accepts("gelu_new") and not field.accepts("gelu_nwe")


def test_no_model_is_refused_the_activation_that_it_has() -> None:
    told = [
        (kind, key) for kind in model_types() for key in ACTIVATION_KEYS if not default(kind, key)
    ]
    assert told == []


def default(kind: str, key: str) -> bool:
    """Whether the configuration's own value, where it has one, is accepted."""
    field = config_fields(kind).get(key)
    return field is None or field.default is None or field.accepts(field.default)


def test_a_float_field_takes_a_whole_number_which_transformers_wants_with_a_point() -> None:
    fields = config_fields("gpt2")
    assert fields["initializer_range"].accepts(5) and fields["initializer_range"].real
    assert not fields["resid_pdrop"].real and not fields["n_layer"].real  # `float | int`, `int`


def test_model_types_are_causal_language_models() -> None:
    assert model_types()["gpt2"] == "GPT2Config"
    assert "t5" not in model_types()


def test_reading_tables_imports_no_library() -> None:
    code = (
        "import sys; from llmkit.fields import config_fields, fields_of;"
        "fields_of('trl.GRPOConfig'); config_fields('llama');"
        "heavy = {'torch', 'transformers', 'trl', 'peft', 'datasets'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
