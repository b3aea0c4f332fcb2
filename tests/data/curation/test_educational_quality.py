"""The classifier step against the model asked directly."""

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from llmkit.data.curation.educational_quality import EducationalQuality
from llmkit.data.curation.filters import Dropped
from llmkit.data.documents import Document
from llmkit.errors import InputError


def save_model(folder, num_labels: int) -> str:
    """A tiny classifier; of one output, the bias makes the score 2.6 for every text."""
    words = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "the", "cat", "sat"])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=5, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, max_position_embeddings=16, num_labels=num_labels,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    if num_labels == 1:
        torch.nn.init.zeros_(model.classifier.weight)
        torch.nn.init.constant_(model.classifier.bias, 2.6)
    model.save_pretrained(folder)
    return str(folder)


def test_a_score_is_rounded_as_in_fineweb_edu(tmp_path):
    model = save_model(tmp_path, 1)
    kept = EducationalQuality(model=model, max_length=8).apply(Document("the cat " * 9, "a"))
    assert kept.metadata["score"] == pytest.approx(2.6) and kept.metadata["int_score"] == 3
    dropped = EducationalQuality(model=model, threshold=4, max_length=8).apply(Document("the", "a"))
    assert isinstance(dropped, Dropped) and dropped.figure == pytest.approx(2.6)
    assert len(list(EducationalQuality(model=model).files())) >= 3


def test_a_label_counts_by_its_probability(tmp_path):
    model = save_model(tmp_path, 3)
    probabilities = [
        EducationalQuality(model=model, label=f"LABEL_{place}", threshold=0, max_length=8)
        .apply(Document("the cat sat", "a"))
        .metadata["score"]
        for place in range(3)
    ]
    assert sum(probabilities) == pytest.approx(1) and len(set(probabilities)) == 3


def test_a_model_that_does_not_fit_is_told(tmp_path):
    model = save_model(tmp_path, 3)
    with pytest.raises(InputError, match="several labels; set `label` to one of LABEL_0"):
        EducationalQuality(model=model).load()
    with pytest.raises(InputError, match="no label 'good'"):
        EducationalQuality(model=model, label="good").load()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="name a sequence classifier"):
        EducationalQuality(model=str(tmp_path / "empty")).load()
