"""The tokenize stage: every document in the shards once, whatever happens on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from transformers import AutoTokenizer

from llmkit.data.documents import Document, write_documents
from llmkit.data.tokens import bpe, encoding
from llmkit.data.tokens.encoding import batches
from llmkit.data.tokens.encoding_backend import Choice
from llmkit.data.tokens.shard_files import ShardWriter, verify
from llmkit.data.tokens.shards import TokenStream, TokenWindows
from llmkit.errors import GateError, InputError
from llmkit.stage import Context, Facts
from llmkit.stages.tokenize import Tokenize

TEXTS = [
    f"Text {i}: the {'long ' * (i % 17)}road to Åse <|endoftext|> <|end|>\r\n" for i in range(400)
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    documents = [Document(text=text, id=str(i)) for i, text in enumerate(TEXTS)]
    write_documents(root / "curate" / "documents" / "00000.parquet", documents[:250])
    write_documents(root / "curate" / "documents" / "00001.parquet", documents[250:])
    trained = bpe.train(TEXTS, vocab_size=280, pattern=bpe.split_pattern("gpt4"))
    bpe.with_specials(trained, None).save_pretrained(root / "tokenizer")
    return {"curate": root / "curate", "tokenizer": root / "tokenizer"}


def run(out, inputs, **keys):
    out.mkdir(parents=True, exist_ok=True)
    context = Context(name="tokenize", out=out, inputs=inputs)
    keys = {"context_length": 16, "validation_fraction": 0.1, "shard_tokens": 2000, **keys}
    return context, Tokenize(documents="curate", tokenizer="tokenizer", **keys).run(context)


@pytest.fixture(scope="module")
def made(inputs, tmp_path_factory):
    return run(tmp_path_factory.mktemp("made"), inputs)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_the_tokens_decode_to_the_documents(made, inputs):
    context, figures = made
    tokenizer = AutoTokenizer.from_pretrained(inputs["tokenizer"])
    found = {"train": [], "validation": []}
    for split in found:
        for ids in TokenStream(context.out, split).iter_documents():
            assert ids[-1] == tokenizer.eos_token_id == 280
            assert ids[:-1].max() < 280  # "<|endoftext|>" within a text stays text
            found[split].append(tokenizer.decode(ids[:-1].tolist()))
    assert sorted(found["train"] + found["validation"]) == sorted(TEXTS)
    assert found["train"] == [text for text in TEXTS if text in set(found["train"])]
    for split, texts in found.items():
        assert figures[f"{split}_documents"] == len(texts)
        assert figures[f"{split}_bytes"] == sum(len(text.encode()) for text in texts)
    assert 20 < len(found["validation"]) < 65


def test_the_ids_are_the_tokenizers(made, inputs):
    context, _ = made
    tokenizer = AutoTokenizer.from_pretrained(inputs["tokenizer"])
    for split in ("train", "validation"):
        for ids in TokenStream(context.out, split).iter_documents():
            text = tokenizer.decode(ids[:-1].tolist())
            assert tokenizer.encode(text, split_special_tokens=True) == ids[:-1].tolist()


def test_the_index_counts_what_lies_there(made):
    context, figures = made
    index = json.loads((context.out / "index.json").read_text())
    assert {key: index[key] for key in ("dtype", "vocab_size", "eos_token_id")} == {
        "dtype": "uint16",
        "vocab_size": 286,
        "eos_token_id": 280,
    }
    assert index["context_length"] == 16
    train = index["splits"]["train"]
    assert len(train["shards"]) > 3
    on_disk = sum(len(np.fromfile(context.out / s["file"], "<u2")) for s in train["shards"])
    assert train["tokens"] == on_disk == figures["train_tokens"]
    assert all(2000 <= shard["tokens"] < 2100 for shard in train["shards"][:-1])
    tokens = figures["train_tokens"] + figures["validation_tokens"]
    num_bytes = sum(len(text.encode()) for text in TEXTS)
    assert figures["bytes_per_token"] == round(num_bytes / tokens, 4)
    verify(context.out)


def test_gates_are_recorded(made):
    context, _ = made
    assert [(result["gate"], result["passed"]) for result in context.gate_results] == [
        ("encoder_identity", True),
        ("ids_below_vocabulary", True),
        ("document_boundaries", True),
        ("shard_digests", True),
        ("validation_not_in_training", True),
        ("training_tokens", True),
    ]


@pytest.mark.parametrize("stop_after", [0, 1, 4, 9])
def test_stopped_and_run_again_gives_the_same_bytes(
    made, inputs, tmp_path, monkeypatch, stop_after
):
    context, _ = made
    monkeypatch.setattr(encoding, "BATCH_BYTES", 3000)
    add, calls = ShardWriter.add_flat, []

    def add_or_stop(self, ids, lengths, sizes):
        if len(calls) == stop_after:
            raise KeyboardInterrupt
        calls.append(len(lengths))
        add(self, ids, lengths, sizes)

    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr(ShardWriter, "add_flat", add_or_stop)
        run(tmp_path / "out", inputs)
    encoded = []
    with monkeypatch.context() as counting:
        counting.setattr(
            ShardWriter,
            "add_flat",
            lambda self, i, n, s: (encoded.extend(n), add(self, i, n, s)),
        )
        run(tmp_path / "out", inputs)
    assert files(tmp_path / "out") == files(context.out)
    if stop_after == 9:
        assert len(encoded) < 300  # the finished shards were not encoded again


@pytest.mark.slow
def test_killed_and_run_again_gives_the_same_bytes(made, inputs, tmp_path):
    context, _ = made
    program = f"""
import os, signal
from pathlib import Path
from llmkit.data.tokens import encoding
from llmkit.data.tokens.shard_files import ShardWriter
from llmkit.stage import Context
from llmkit.stages import tokenize
encoding.BATCH_BYTES = 3000
add, calls = ShardWriter.add_flat, []
def add_or_die(self, ids, lengths, sizes):
    add(self, ids, lengths, sizes)
    calls.append(1)
    if len(calls) == 7:
        os.kill(os.getpid(), signal.SIGKILL)
ShardWriter.add_flat = add_or_die
out = Path({str(tmp_path)!r})
inputs = {{"curate": Path({str(inputs["curate"])!r}), "tokenizer": {str(inputs["tokenizer"])!r}}}
stage = tokenize.Tokenize(documents="curate", tokenizer="tokenizer", context_length=16,
                          validation_fraction=0.1, shard_tokens=2000)
stage.run(Context(name="tokenize", out=out, inputs=inputs))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert 1 <= len(list(tmp_path.glob("train-*.bin"))) <= 4
    run(tmp_path, inputs)
    assert files(tmp_path) == files(context.out)


def test_a_damaged_finished_shard_is_written_again(made, inputs, tmp_path):
    context, _ = made
    run(tmp_path / "out", inputs)
    (tmp_path / "out" / "train-00001.bin").write_bytes(b"\0" * 10)
    run(tmp_path / "out", inputs)
    assert files(tmp_path / "out") == files(context.out)


def test_a_token_that_text_can_spell_is_no_boundary(inputs, tmp_path):
    """An end-of-text that is an ordinary word of the vocabulary stops at the gate."""
    tokenizer = AutoTokenizer.from_pretrained(inputs["tokenizer"])
    tokenizer.eos_token = ":"
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    document = json.loads((tmp_path / "tokenizer" / "tokenizer.json").read_text())
    document["added_tokens"] = [t for t in document["added_tokens"] if t["content"] != ":"]
    (tmp_path / "tokenizer" / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(GateError, match="document_boundaries.*800 end-of-text tokens"):
        run(tmp_path / "out", {**inputs, "tokenizer": tmp_path / "tokenizer"})


def test_too_few_tokens_for_one_window(inputs, tmp_path):
    with pytest.raises(GateError, match="training_tokens.*at least 1000000, the context_length"):
        run(tmp_path, inputs, context_length=1_000_000)


def test_a_tokenizer_without_an_end_is_refused(inputs, tmp_path):
    shutil.copytree(inputs["tokenizer"], tmp_path / "tokenizer")
    config = json.loads((tmp_path / "tokenizer" / "tokenizer_config.json").read_text())
    del config["eos_token"]
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="no end-of-text token"):
        run(tmp_path / "out", {**inputs, "tokenizer": tmp_path / "tokenizer"})


def test_no_validation_where_none_is_asked(inputs, tmp_path):
    _, figures = run(tmp_path, inputs, validation_fraction=0.0)
    assert (figures["validation_tokens"], figures["train_documents"]) == (0, 400)
    assert len(TokenWindows(tmp_path, "train", 16)) == figures["train_tokens"] // 16


def test_batches_are_closed_by_the_text_that_fills_them():
    texts = [("ab", 2, "train"), ("é", 2, "validation"), ("c", 1, "train"), ("dd", 2, "train")]
    assert list(batches([*texts, ("e", 1, "train")], 3)) == [
        (["ab", "é"], [2, 2], ["train", "validation"]),
        (["c", "dd"], [1, 2], ["train", "train"]),
        (["e"], [1], ["train"]),
    ]


def test_every_backend_writes_the_same_bytes(made, inputs, tmp_path):
    context, figures = made
    again, told = run(tmp_path, inputs, backend="tokenizers")
    assert files(tmp_path) == files(context.out) and told["backend"] == "tokenizers"
    assert figures["backend"] in ("gigatoken", "tokenizers")
    assert again.gate_results[0]["measured"] == "tokenizers itself"


def test_a_wrong_id_on_the_way_stops(inputs, tmp_path, monkeypatch):
    def wrong(self, texts):
        self.differing.append(texts[0])
        return real(self, texts)

    real = Choice.encode
    monkeypatch.setattr(Choice, "encode", wrong)
    with pytest.raises(GateError, match="encoder_identity.*set backend: tokenizers"):
        run(tmp_path, inputs)


def test_to_llmc_and_back_gives_the_same_shards(made, inputs, tmp_path):
    context, figures = made
    there, _ = run(tmp_path / "there", inputs, to_llmc=True)
    back = Tokenize(
        tokenizer="tokenizer",
        context_length=16,
        shard_tokens=2000,
        from_llmc=str(there.out / "llmc"),
    )
    assert list(back.problems({})) == [] and len(list(back.files())) == 2
    again = Context(name="tokenize", out=tmp_path / "back", inputs=inputs)
    again.out.mkdir()
    told = back.run(again)
    assert files(again.out) == files(context.out)  # the counted bytes of text too
    assert {**told, "backend": 0}.items() <= {**figures, "backend": 0, **rates(told)}.items()


def rates(figures):
    return {"megabytes_per_second": figures["megabytes_per_second"]}


def test_other_files_than_llmcs_are_told_before_anything_runs(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"no header")
    for place, what in ((tmp_path, "fewer than a header"), (tmp_path / "y", "no llm.c file")):
        stage = Tokenize(context_length=16, from_llmc=str(place))
        (problem,) = stage.problems({})
        assert problem.path == ("from_llmc",) and what in problem.what


def test_facts_are_the_tokenizers_with_a_length():
    known = Facts(vocab_size=400, eos_token="e", pad_token="p", chat_template=True)
    stage = Tokenize(documents="curate", tokenizer="words", context_length=64)
    facts = stage.facts({"curate": Facts(), "words": known})
    assert (facts.vocab_size, facts.context_length, facts.eos_token) == (400, 64, "e")
    assert (facts.pad_token, facts.chat_template) == ("p", True)
    assert list(stage.problems({})) == []
    bad = Tokenize(context_length=1, validation_fraction=1.0, shard_tokens=0)
    assert [problem.path for problem in bad.problems({})] == [
        ("context_length",),
        ("validation_fraction",),
        ("shard_tokens",),
        ("documents",),
    ]
