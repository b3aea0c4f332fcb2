"""The LoraConfig of a recipe, and adapters merged into what they were trained on."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from tiny_chat import tiny_folder, tiny_model, tiny_tokenizer

from llmkit.errors import UserError
from llmkit.reward_model import fresh_reward_model
from llmkit.trainers.adapters import lora_config, merged, old_name_allowed

LORA: dict[str, Any] = {"r": 2, "target_modules": ["c_attn"]}


def test_what_a_recipe_leaves_out() -> None:
    assert lora_config(None, "dpo", "CAUSAL_LM") is None
    alone = lora_config(LORA, "dpo", "CAUSAL_LM")
    assert alone is not None and alone.r == 2
    assert (alone.task_type, alone.fan_in_fan_out) == ("CAUSAL_LM", False)
    of_gpt2 = lora_config(LORA, "dpo", "CAUSAL_LM", tiny_model(tiny_tokenizer()))
    assert of_gpt2 is not None and of_gpt2.fan_in_fan_out is True
    said = lora_config(LORA | {"task_type": "SEQ_CLS"}, "dpo", "CAUSAL_LM")
    assert said is not None and said.task_type == "SEQ_CLS"
    with pytest.raises(UserError, match=r"^dpo\.peft: LoraConfig refuses it"):
        lora_config(LORA | {"layers_to_transform": [0], "target_modules": "all"}, "dpo", "X")


def test_the_old_name_may_be_read_and_no_other_warning_is_hidden() -> None:
    model = tiny_model(tiny_tokenizer())
    with old_name_allowed():
        assert model.is_gradient_checkpointing is False
        with pytest.raises(FutureWarning, match="another name"):
            warnings.warn("another name is deprecated", FutureWarning, stacklevel=1)


# peft reads a name that transformers 5.23 has deprecated.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_a_reward_head_is_trained_and_merged_with_the_adapter(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path / "base")
    model, _ = fresh_reward_model(base, seed=1)
    wrapped: Any = get_peft_model(model, lora_config(LORA, "reward", "SEQ_CLS", model))
    trained = [name for name, p in wrapped.named_parameters() if p.requires_grad]
    assert any("score" in name for name in trained) and any("lora_B" in name for name in trained)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if name in trained:
                parameter.add_(0.1)
        ids = torch.tensor([[5, 9, 20, 33]])
        expected = wrapped(ids).logits
    trainer = SimpleNamespace(model=wrapped, args=SimpleNamespace(should_save=True))
    merged(trainer, tmp_path / "adapter", "base")
    with torch.no_grad():
        assert torch.allclose(trainer.model(ids).logits, expected, atol=1e-5)
    assert set(trainer.model.state_dict()) == set(fresh_reward_model(base)[0].state_dict())
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base"
    again = PeftModel.from_pretrained(fresh_reward_model(base, seed=5)[0], tmp_path / "adapter")
    with torch.no_grad():
        assert torch.allclose(again.eval()(ids).logits, expected, atol=1e-5)
