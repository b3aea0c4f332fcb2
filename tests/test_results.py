"""What a finished run gives back: models by transformers alone, and tables that fit a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import upper_run

from llmkit import results, tables
from llmkit.errors import InputError
from llmkit.results import FinishedStage, Run


def finished(name: str, kind: str, folder: Path, **metrics: object) -> FinishedStage:
    record = {"kind": kind, "metrics": metrics, "seconds": 75.4}
    return FinishedStage(name, folder, record)


def test_model_and_tokenizer_load_by_transformers(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    config = GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=4, n_positions=8)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    bare = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=bare).save_pretrained(tmp_path)
    stage = finished("sft", "sft", tmp_path)
    assert type(stage.model()) is GPT2LMHeadModel
    assert stage.tokenizer().get_vocab() == {"a": 0, "b": 1}
    empty = finished("words", "words", tmp_path / "elsewhere")
    with pytest.raises(InputError, match="holds no model: the stage is a `words`"):
        empty.model()


def test_table_shows_stages_models_by_question_types(tmp_path: Path) -> None:
    def cell(value: float, low: float, high: float) -> dict[str, float]:
        return {"value": value, "low": low, "high": high, "n": 100}

    metrics = {
        "sft": {"tinyworld_cloze/accuracy": cell(0.9, 0.86, 0.93), "chat/ok": cell(1, 0.963, 1)},
        "pretrain": {"tinyworld_cloze/accuracy": cell(0.934, 0.901, 0.957)},
    }
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    pairs = {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.94}
    pairs |= {"length_baseline": 0.5, "length_baseline_low": 0.4, "length_baseline_high": 0.6}
    stages = [
        finished("curate", "curate", tmp_path, documents=19412, removed=588),
        finished("pretrain", "pretrain", tmp_path),
        finished("sft", "sft", tmp_path, **{f"figure_{n}": n / 7 for n in range(9)}),
        finished("judge", "reward", tmp_path, **pairs),
        finished("evaluate", "evaluate", tmp_path),
    ]
    run = Run(Path("runs/quickstart"), {stage.name: stage for stage in stages})
    assert run.table() == (
        "stage           time  figures\n"
        "--------  ----------  " + "-" * 74 + "\n"
        "curate    1 min 15 s  documents 19,412, removed 588\n"
        "pretrain  1 min 15 s\n"
        "sft       1 min 15 s  figure_0 0, figure_1 0.1429, figure_2 0.2857, figure_3 0.4286, ...\n"
        "judge     1 min 15 s  accuracy 0.9, accuracy_low 0.85, accuracy_high 0.94, ...\n"
        "evaluate  1 min 15 s\n"
        "all       6 min 17 s\n"
        "\n"
        "evaluate\n"
        "\n"
        "model     cloze              chat\n"
        "          accuracy           ok\n"
        "--------  -----------------  -------------------\n"
        "pretrain  .934 [.901, .957]  -\n"
        "sft       .900 [.860, .930]  1.000 [.963, 1.000]\n"
        "\n"
        f"value [95 % interval]; all figures: {tmp_path / 'metrics.json'}\n"
        "\n"
        "held-out preference pairs\n"
        "\n"
        "model  all pairs          length alone\n"
        "       accuracy           accuracy\n"
        "-----  -----------------  -----------------\n"
        "judge  .900 [.850, .940]  .500 [.400, .600]"
    )


def test_commands_name_the_run_wherever_it_lies(tmp_path: Path) -> None:
    chat = {"sft": finished("sft", "sft", tmp_path)}
    assert Run(Path("runs/gpt2/ladder"), chat, "gpt2/ladder seed=1").commands() == {
        "run": "llmkit run gpt2/ladder seed=1",
        "report": "llmkit report gpt2/ladder",
        "chat": "llmkit chat gpt2/ladder",
    }
    elsewhere = Run(Path("/my runs/tiny"), {"words": finished("w", "words", tmp_path)}, "tiny")
    assert elsewhere.commands() == {
        "run": "llmkit run tiny",
        "report": "llmkit report '/my runs/tiny'",
    }


def test_the_report_shows_the_commands_of_the_run(tmp_path: Path) -> None:
    run = Run.open(upper_run.write_run(tmp_path / "upper"))
    page = run.report().read_text(encoding="utf-8")
    for command in run.commands().values():
        assert command in page
    assert "ppo" in run.table()


def test_time_of_a_resumed_stage_says_so(tmp_path: Path) -> None:
    record = {"kind": "sft", "metrics": {}, "seconds": 5.0, "resumed": True}
    table = results.stage_table([FinishedStage("sft", tmp_path, record)])
    assert table.endswith("sft    5.0 s+\n+ resumed: the time since then alone")


def test_table_after_a_stage_leaves_parts_of_a_long_one_to_the_record() -> None:
    metrics = {"documents": 60, "words": ["a"]} | {f"rule_{n}/removed": n for n in range(20)}
    gates = [{"gate": "one", "passed": True}, {"gate": "two", "passed": False}]
    table = tables.after_stage(metrics, gates, 1.0, Path("runs/x/curate"))
    assert table == (
        "      documents  60\n"
        "      ...        and 20 more figures in runs/x/curate/stage.json\n"
        "      gates      1 of 2 passed; NOT: two\n"
        "      time       1.0 s"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04, "0.0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599.9, "1 h 00 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_seconds_for_people(value: float, text: str) -> None:
    assert tables.seconds(value) == text
