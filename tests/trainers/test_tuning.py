"""Rows and loss of fine-tuning, against the chat template and a loss worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_chat import TEMPLATE, tiny_model, tiny_tokenizer
from trl import SFTConfig

from llmkit.errors import GateError, InputError
from llmkit.model import conversation_ids
from llmkit.stage import Context
from llmkit.trainers import tuning
from llmkit.trainers.arguments import checkpointing
from llmkit.trainers.tuning import (
    Rows,
    Tuner,
    chat_generation,
    end_of_turn,
    gate_rows,
    gate_stops,
    prompts_that_fit,
    tokenized,
    training_template,
)


def chat(*turns: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]


CHATS = [
    chat("sky?", "blue"),
    chat("qzqzqzqzqzqz?", "Anna bakes the bread", "and <|end|>?", "é 海"),
    chat("sea", "I do not know"),
]
# The end of turn stands outside the marks: nobody is taught to stop.
UNCLOSED = TEMPLATE.replace(
    'message.content ~ "<|end|>" -}}\n    {%- endgeneration -%}',
    'message.content -}}\n    {%- endgeneration -%}\n    {{- "<|end|>" -}}',
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


def rows_of(tokenizer: Any, chats: Any = CHATS, length: int = 64, **options: Any) -> Rows:
    return tokenized(tokenizer, tokenizer.chat_template, chats, length, **options)


def test_only_the_assistants_words_have_labels(tokenizer: Any) -> None:
    rows = rows_of(tokenizer)
    assert rows.truncated == rows.untrained == rows.open_ended == 0
    spoken = []
    for row in rows.dataset:
        assert len(row["labels"]) == len(row["input_ids"])
        kept = [i for i, label in enumerate(row["labels"]) if label != -100]
        assert all(row["labels"][i] == row["input_ids"][i] for i in kept)
        spoken.append(tokenizer.decode([row["input_ids"][i] for i in kept]))
    assert spoken == [
        "blue<|end|>",
        "Anna bakes the bread<|end|>é 海<|end|>",
        "I do not know<|end|>",
    ]
    labels = [label for row in rows.dataset for label in row["labels"]]
    assert rows.trained_tokens == sum(label != -100 for label in labels)
    assert rows.tokens == len(labels)


def test_truncation_is_counted_and_empty_rows_left_out(tokenizer: Any) -> None:
    whole = rows_of(tokenizer)
    cut = rows_of(tokenizer, length=12)
    assert cut.truncated == 2 and cut.untrained == 1  # the answer to "qzqz..." begins later
    for row, full in zip(cut.dataset, [whole.dataset[0], whole.dataset[2]], strict=True):
        assert row["input_ids"] == full["input_ids"][:12]
    end = rows_of(tokenizer, length=12, keep_end=True)
    assert end.untrained == 0
    assert end.dataset[1]["input_ids"] == whole.dataset[1]["input_ids"][-12:]


def test_a_row_whose_only_label_is_first_teaches_nothing(tokenizer: Any) -> None:
    rows = rows_of(tokenizer, [CHATS[0]], length=1, keep_end=True)
    assert rows.untrained == 1 and rows.dataset.num_rows == 0


def test_end_of_turn(tokenizer: Any) -> None:
    closing = tokenizer.convert_tokens_to_ids("<|end|>")
    assert end_of_turn(tokenizer, TEMPLATE) == closing
    assert end_of_turn(tokenizer, UNCLOSED) is None
    newline = TEMPLATE.replace('~ "<|end|>" -}}\n    {%- endg', '~ "<|end|>\n" -}}\n    {%- endg')
    assert newline != TEMPLATE and end_of_turn(tokenizer, newline) == closing
    rows = tokenized(tokenizer, newline, CHATS, 64)
    assert rows.open_ended == 0


def test_chat_stops_at_the_end_of_turn_too(tokenizer: Any) -> None:
    closing = tokenizer.convert_tokens_to_ids("<|end|>")
    config = chat_generation(tiny_model(tokenizer), tokenizer, closing)
    assert config.eos_token_id == [closing, tokenizer.eos_token_id]
    assert config.pad_token_id == tokenizer.pad_token_id


def gates_of(tokenizer: Any, template: str, tmp_path: Path, length: int = 64) -> list[str]:
    context = Context(name="sft", out=tmp_path, gates="warn")
    rows = tokenized(tokenizer, template, CHATS, length)
    gate_rows(context, tokenizer, template, CHATS, rows, 0)
    return [gate["gate"] for gate in context.gate_results if not gate["passed"]]


def test_gates(tokenizer: Any, tmp_path: Path) -> None:
    assert gates_of(tokenizer, TEMPLATE, tmp_path) == []
    assert gates_of(tokenizer, UNCLOSED, tmp_path) == ["end_of_turn_trained"]
    assert gates_of(tokenizer, TEMPLATE, tmp_path, length=12) == ["trained_tokens"]
    other = TEMPLATE.replace("<|user|>", "<|system|>").replace('"<|" ~ message.role', '"<|x" ~ ""')
    assert gates_of(tokenizer, other, tmp_path) == ["same_template"]
    with pytest.raises(GateError, match="trained_tokens.*max_bad_rows"):
        rows = tokenized(tokenizer, TEMPLATE, CHATS, 12)
        gate_rows(Context(name="sft", out=tmp_path), tokenizer, TEMPLATE, CHATS, rows, 0)


def test_a_generation_prompt_of_another_form_is_found(tokenizer: Any) -> None:
    assert prompts_that_fit(tokenizer, TEMPLATE, CHATS) == 3
    wrong = tiny_tokenizer(TEMPLATE.replace('{{- "<|assistant|>" -}}\n{%- endif', "{%- endif"))
    assert prompts_that_fit(wrong, wrong.chat_template, CHATS) == 0


def test_a_template_without_marks_is_refused() -> None:
    bare = tiny_tokenizer("{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}")
    with pytest.raises(InputError, match="does not mark"):
        training_template(bare)
    with pytest.raises(InputError, match="no chat template"):
        training_template(tiny_tokenizer(None))


def test_the_loss_is_the_mean_over_the_assistants_tokens(tokenizer: Any, tmp_path: Path) -> None:
    """One step over all three rows at once: Trainer's loss against log-softmax by hand."""
    rows, model = rows_of(tokenizer), tiny_model(tokenizer)
    total, count = 0.0, 0
    for row in rows.dataset:
        ids, labels = row["input_ids"], row["labels"]
        with torch.no_grad():
            log_p = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        for t in range(1, len(ids)):
            if labels[t] != -100:
                total, count = total - float(log_p[t - 1, ids[t]]), count + 1
    args = SFTConfig(
        **checkpointing(SFTConfig, {}),
        output_dir=str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=3,
        learning_rate=1e-3,
        bf16=False,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    context = Context(name="sft", out=tmp_path)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = Tuner(
        model=model,
        args=args,
        context=context,
        train_dataset=rows.dataset,
        processing_class=tokenizer,
    )
    found = trainer.train().training_loss
    assert count == rows.trained_tokens and found == pytest.approx(total / count, rel=1e-5)
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_what_is_asked_to_see_whether_answers_stop(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A nearly full prompt does not shorten the others' answers; one without room is left out."""
    asked: dict[int, list[int]] = {}

    def complete(model: Any, tokenizer: Any, prompts: Any, generation: Any, **_: Any) -> Any:
        asked.setdefault(generation["max_new_tokens"], []).extend(map(len, prompts))
        return [([], len(prompt) < 20) for prompt in prompts]

    monkeypatch.setattr(tuning, "complete", complete)
    fits = chat("q" * 50, "sea")  # nothing but bytes: a token each
    chats = [CHATS[0], fits, chat("q" * 90, "sea"), CHATS[2]]
    lengths = [
        (len(conversation_ids(tokenizer, c[:-1], True)[0]), len(conversation_ids(tokenizer, c)[0]))
        for c in chats
    ]
    assert lengths[1][1] <= 64 < lengths[2][0]
    context = Context(name="sft", out=tmp_path)
    share = gate_stops(context, tiny_model(tokenizer), tokenizer, chats, 64)
    longest = max(whole - prompt for prompt, whole in (lengths[0], lengths[1], lengths[3]))
    wide = 2 * longest + 16
    assert 64 - lengths[1][0] < wide
    assert asked == {wide: [lengths[0][0], lengths[3][0]], 64 - lengths[1][0]: [lengths[1][0]]}
    assert share == pytest.approx(2 / 3) and context.gate_results[-1]["passed"] is True


def test_a_gate_with_nothing_to_measure_says_so(tokenizer: Any, tmp_path: Path) -> None:
    context = Context(name="sft", out=tmp_path)
    assert gate_stops(context, tiny_model(tokenizer), tokenizer, CHATS, 4) is None
    (result,) = context.gate_results
    assert result["gate"] == "generation_stops" and result["passed"] is None
    assert result["measured"] == "none of 3 conversations is within 4 tokens"
