"""`{model: reward}`: completions scored by a reward model's own tokenizer and template."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_chat import tiny_model, tiny_tokenizer
from transformers import GPT2ForSequenceClassification

from llmkit.errors import InputError
from llmkit.rewards.model import ModelReward


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model with weights of its own."""
    path = tmp_path_factory.mktemp("inputs") / "judge"
    tokenizer = tiny_tokenizer()
    config = tiny_model(tokenizer).config
    config.num_labels = 1
    torch.manual_seed(4)
    model = GPT2ForSequenceClassification(config)
    with torch.no_grad():
        model.score.weight.normal_()
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_scores_are_those_of_the_whole_conversation(folder: Path) -> None:
    reward = ModelReward(model="judge")
    function = reward.callable({"judge": folder}, None, "cpu")  # type: ignore[arg-type]
    prompts = [[{"role": "user", "content": text}] for text in ("sky?", "and the sea?", "sky?")]
    said = [[{"role": "assistant", "content": text}] for text in ("blue", "cold", "blue")]
    found = function(prompts, said, ended=[True, True, False])
    tokenizer = tiny_tokenizer()
    model = GPT2ForSequenceClassification.from_pretrained(folder).eval()
    for prompt, answer, score in zip(prompts[:2], said[:2], found[:2], strict=True):
        ids = tokenizer.apply_chat_template(prompt + answer, return_dict=True)["input_ids"]
        with torch.no_grad():
            assert score == pytest.approx(model(torch.tensor([ids])).logits.item(), abs=1e-5)
    assert found[2] != found[0]  # cut off: scored without its end of turn
    assert reward.label == "judge"


def test_a_language_model_is_no_judge(folder: Path, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tiny_model(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is no reward model"):
        ModelReward(model="base").callable({"base": tmp_path}, tokenizer, "cpu")
