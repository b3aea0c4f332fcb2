"""`pretrain` on a mixture of shard sets: what it reads, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import (
    CONTEXT,
    artefacts,
    context_in,
    make_inputs,  # noqa: F401 - the fixture `inputs` calls it
    make_shards,
    tiny_stage,
)
from transformers import AutoTokenizer

from llmkit.data.tokens.contamination import Contamination
from llmkit.data.tokens.shards import TokenStream, TokenWindows
from llmkit.errors import GateError
from llmkit.stage import Facts
from llmkit.trainers.pretrain_settings import ShardSet
from llmkit.trainers.pretraining import Pretrainer

BATCH = 4


@pytest.fixture(scope="module")
def sets(inputs: Path) -> Path:
    """Two sets in `web` and `code`; of the words of `code`, none is in `web`."""
    tokenizer = AutoTokenizer.from_pretrained(inputs / "tokenizer")
    make_shards(inputs / "web", tokenizer, documents=40, words=("the", "a", "red"))
    make_shards(inputs / "code", tokenizer, documents=80, words=("cat", "dog"))
    return inputs


def trained_on(
    sets: Path, out: Path, monkeypatch: pytest.MonkeyPatch, mixture: list[ShardSet], **args: Any
) -> list[str]:
    """The set of each window that a training saw, in order."""
    seen: list[torch.Tensor] = []
    step = Pretrainer.training_step

    def record(self: Any, model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
        seen.extend(inputs["input_ids"])
        return step(self, model, inputs, *more, **named)

    monkeypatch.setattr(Pretrainer, "training_step", record)
    context = context_in(sets, out)
    context.inputs.update({name: sets / name for name in ("web", "code")})
    stage = tiny_stage(mixture=mixture, args={"save_strategy": "no", **args})
    if "max_steps" not in args:
        stage.args.pop("max_steps")
    stage.run(context)
    cat = AutoTokenizer.from_pretrained(sets / "tokenizer").convert_tokens_to_ids(["cat", "dog"])
    code = torch.tensor(cat)
    return ["code" if torch.isin(window, code).any() else "web" for window in seen]


def test_weights_are_shares_of_the_windows(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixture = [ShardSet(shards="web", weight=3), ShardSet(shards="code", weight=1)]
    read = trained_on(sets, tmp_path, monkeypatch, mixture, max_steps=20)
    assert len(read) == 20 * BATCH
    assert read.count("web") == 60 and read.count("code") == 20
    assert "code" in read[:40] and "code" in read[40:], "they are mixed, not one after another"


def test_epochs_say_how_long_is_trained(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web, code = (len(TokenWindows(sets / name, "train", CONTEXT)) for name in ("web", "code"))
    mixture = [ShardSet(shards="web", epochs=2), ShardSet(shards="code", epochs=0.5)]
    read = trained_on(sets, tmp_path, monkeypatch, mixture)
    whole = 2 * web + round(code / 2)
    assert len(read) == whole // BATCH * BATCH
    assert 2 * web - BATCH < read.count("web") <= 2 * web


def test_the_set_that_validates_need_not_be_trained_on(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained on `code` alone, and validated on `shards`, whose words it has hardly seen."""
    mixture = [ShardSet(shards="code", weight=1)]
    assert set(trained_on(sets, tmp_path, monkeypatch, mixture, max_steps=3)) == {"code"}
    assert "model.safetensors" in artefacts(tmp_path)


def problems(mixture: list[ShardSet], **args: Any) -> list[str]:
    upstream = {
        "tokenizer": Facts(vocab_size=22, context_length=None),
        "shards": Facts(vocab_size=22, context_length=CONTEXT, validation=True),
        "web": Facts(vocab_size=22, context_length=CONTEXT),
        "code": Facts(vocab_size=30, context_length=CONTEXT),
    }
    stage = tiny_stage(mixture=mixture, args=args)
    if args.get("max_steps") is None:
        stage.args.pop("max_steps")
    return [str(problem) for problem in stage.problems(upstream)]


def test_problems_of_a_mixture() -> None:
    by_weight = [ShardSet(shards="web", weight=1)]
    assert problems(by_weight, max_steps=5) == []
    (found,) = problems(by_weight, max_steps=None)
    assert found.startswith("mixture: weights do not say how much") and "max_steps" in found
    (found,) = problems([ShardSet(shards="web", epochs=1)], max_steps=5)
    assert found.startswith("args.max_steps: the epochs of the mixture say")
    (found,) = problems([*by_weight, ShardSet(shards="web", epochs=1)], max_steps=5)
    assert found.startswith("mixture: some sets have a weight and some have epochs")
    (found,) = problems([ShardSet(shards="code", weight=1)], max_steps=5)
    assert found.startswith("mixture[0].shards: code was made with 30 tokens, and shards with 22")


@pytest.mark.parametrize("given", [{}, {"weight": 1, "epochs": 1}, {"weight": 0}, {"epochs": -1}])
def test_a_set_has_one_positive_share(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="one of the two|not positive"):
        ShardSet(shards="web", **given)


GATE = "validation_not_in_training"


def gated(sets: Path, out: Path, *mixture: str, **settings: Any) -> list[dict[str, Any]]:
    """What the gate of one step of a training on `mixture` recorded, validated on `shards`."""
    context = context_in(sets, out, **settings)
    context.inputs.update({name: sets / name for name in ("web", "again")})
    parts = [ShardSet(shards=name, weight=1) for name in mixture]
    stage = tiny_stage(mixture=parts, args={"save_strategy": "no", "max_steps": 1})
    try:
        stage.run(context)
    finally:
        recorded = [gate for gate in context.gate_results if gate["gate"] == GATE]
    return recorded


def test_validation_text_is_not_trained_on(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`again` is made of the documents of `shards`, and holds out none of them."""
    tokenizer = AutoTokenizer.from_pretrained(sets / "tokenizer")
    make_shards(sets / "again", tokenizer, held_out=0)
    with pytest.raises(GateError, match=r"of \d+ validation documents.*one validation_fraction"):
        gated(sets, tmp_path / "stop", "web", "again")
    (failed,) = gated(sets, tmp_path / "warn", "again", gates="warn")
    judged = sum(
        len(ids) >= 16 for ids in TokenStream(sets / "shards", "validation").iter_documents()
    )
    assert failed["passed"] is False and judged > 2
    assert failed["measured"] == f"{judged} of {judged} validation documents (100.0 %)"
    (passed,) = gated(sets, tmp_path / "web", "web")
    assert passed["passed"] is True and passed["measured"].startswith("0 of ")


def test_a_set_is_not_read_for_what_it_holds_out_itself(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*args: Any) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr("llmkit.trainers.pretrain_windows.contamination", nothing)
    for mixture in ([], ["shards"]):
        (passed,) = gated(sets, tmp_path / str(len(mixture)), *mixture)
        assert passed["passed"] is True and "divided by their text" in passed["measured"]


def test_what_the_first_process_found_is_the_figure_of_all(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process reads nothing itself, and stops by what it is told."""

    class Second:
        def by_the_first(self, work: Any) -> Contamination:
            return Contamination(judged=50, found=3, read=1000, tokens=1000)

    monkeypatch.setattr("llmkit.trainers.pretrain_windows.current", Second)
    with pytest.raises(GateError, match=r"3 of 50 validation documents \(6\.0 %\)"):
        gated(sets, tmp_path, "web")
