"""The tokenizer stage: a folder that plain transformers loads, gates that say what went wrong."""

import json
import os
import subprocess
import sys

import pytest
from transformers import AutoTokenizer

from llmkit.data.documents import Document, write_documents
from llmkit.data.tokens import training_estimate
from llmkit.errors import GateError, InputError
from llmkit.stage import Context, Facts
from llmkit.stages.tokenizer import Tokenizer

WORDS = "river stone market baker twelve hundred letters window garden morning".split()
TEXTS = [
    f"{WORDS[i % 10].title()} {i} of the {WORDS[i // 10 % 10]}s: it's {WORDS[i * 7 % 10]}!\n\n"
    f"Zoë sold {i * 3} {WORDS[i * 3 % 10]}s — <|endoftext|> is no end.\r\n"
    for i in range(300)
]


def curated(folder, texts=TEXTS):
    documents = [Document(text=text, id=str(i)) for i, text in enumerate(texts)]
    write_documents(folder / "documents" / "00000.parquet", documents)
    return folder


def run(tmp_path, *, texts=TEXTS, name="tokenizer", gates="stop", **keys):
    context = Context(
        name=name,
        out=tmp_path / name,
        inputs={"curate": curated(tmp_path / "curate", texts)},
        gates=gates,
    )
    context.out.mkdir()
    figures = Tokenizer(documents="curate", **{"vocab_size": 400, **keys}).run(context)
    return context, figures


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return run(tmp_path_factory.mktemp("run"))


def test_the_folder_is_what_transformers_reads(made):
    context, figures = made
    tokenizer = AutoTokenizer.from_pretrained(context.out)
    assert len(tokenizer) == tokenizer.vocab_size + 6 == figures["vocab_size"] == 400
    assert tokenizer.eos_token == tokenizer.bos_token == "<|endoftext|>"
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (394, 395)
    assert tokenizer.convert_tokens_to_ids("<|end|>") == 399
    assert all(tokenizer.decode(tokenizer.encode(t, split_special_tokens=True)) == t for t in TEXTS)
    assert tokenizer.model_max_length > 10**29  # transformers' way to say "no limit of its own"


def test_figures_are_of_all_documents_and_flat(made):
    context, figures = made
    num_bytes = sum(len(text.encode()) for text in TEXTS)
    assert (figures["documents"], figures["bytes"]) == (300, num_bytes)
    tokenizer = AutoTokenizer.from_pretrained(context.out)
    tokens = sum(len(tokenizer.encode(text, split_special_tokens=True)) for text in TEXTS)
    assert figures["bytes_per_token"] == round(num_bytes / tokens, 4)
    assert json.loads(json.dumps(figures)) == figures


def test_gates_are_recorded_when_passed(made):
    context, _ = made
    assert [(result["gate"], result["passed"]) for result in context.gate_results] == [
        ("vocabulary_reached", True),
        ("specials_after_vocabulary", True),
        ("round_trip", True),
        ("specials_from_text", True),
        ("chat_template_marks", True),
        ("tiktoken_ranks", True),
    ]


def test_the_same_documents_give_the_same_bytes(made, tmp_path, monkeypatch):
    context, _ = made
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")  # with threads, and (above) without
    again, _ = run(tmp_path)
    assert artefacts(again.out) == artefacts(context.out)
    assert sorted(artefacts(context.out)) == [
        "chat_template.jinja",
        "tiktoken/encoding.json",
        "tiktoken/ranks.tiktoken",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def artefacts(folder):
    """Name -> bytes of what the stage made; logs are none of it."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: p.read_bytes() for name, p in files.items() if not name.startswith("logs/")}


def test_a_vocabulary_out_of_reach_says_how_far_it_got(tmp_path):
    with pytest.raises(GateError, match="measured (\\d+), must be 5000 ids; set vocab_size to \\1"):
        run(tmp_path, vocab_size=5000)


def test_a_vocabulary_out_of_reach_may_be_a_warning(tmp_path, caplog):
    context, figures = run(tmp_path, vocab_size=5000, gates="warn")
    assert "vocabulary_reached" in caplog.text
    tokenizer = AutoTokenizer.from_pretrained(context.out)
    assert figures["vocab_size"] == len(tokenizer) < 5000
    assert tokenizer.convert_tokens_to_ids("<|end|>") == len(tokenizer) - 1


def test_limit_and_digits(tmp_path):
    context, figures = run(tmp_path, limit=50, vocab_size=300, individual_digits=True)
    assert figures["documents"] == 50
    tokens = AutoTokenizer.from_pretrained(context.out).tokenize("x 1953")
    assert tokens[-4:] == ["1", "9", "5", "3"]


def test_no_documents_is_the_users_fault(tmp_path):
    with pytest.raises(InputError, match="no text to learn from"):
        run(tmp_path, texts=[])


def write_template(path, words):
    path.write_text(
        "{% for m in messages %}{% if m.role == 'assistant' %}A:" + words + "{% else %}"
        "U:{{ m.content }}#{% endif %}{% endfor %}"
    )
    return str(path)


def test_more_than_32_bits_can_count_is_refused(tmp_path, monkeypatch):
    # The sample is all of the texts, and half as much again is granted to doubt.
    countable = sum(len(text.encode()) for text in TEXTS[:20])
    share = training_estimate.most_frequent_pair(TEXTS)
    monkeypatch.setattr(training_estimate, "LARGEST_COUNT", int(1.5 * share * countable) + 1)
    with pytest.raises(InputError, match="could overflow 32 bits; set limit to 20 documents"):
        run(tmp_path)


def test_a_folder_without_documents_is_said_through_the_trainer(tmp_path):
    context = Context(name="tokenizer", out=tmp_path, inputs={"curate": tmp_path / "nowhere"})
    with pytest.raises(InputError, match="nowhere"):
        Tokenizer(documents="curate", vocab_size=400).run(context)


def test_a_template_of_ones_own(tmp_path):
    marked = "{% generation %}{{ m.content }}#{% endgeneration %}"
    template = write_template(tmp_path / "own.jinja", marked)
    context, _ = run(tmp_path, chat_template=template)
    tokenizer = AutoTokenizer.from_pretrained(context.out)
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == "U:hi#A:ho#"
    assert (
        list(Tokenizer(documents="curate", vocab_size=400, chat_template=template).problems({}))
        == []
    )


def test_a_template_without_marks_stops(tmp_path):
    template = write_template(tmp_path / "own.jinja", "{{ m.content }}#")
    with pytest.raises(GateError, match="marks nothing.*put {% generation %}"):
        run(tmp_path, chat_template=template)


def test_no_template_at_all(tmp_path):
    context, _ = run(tmp_path, chat_template=None)
    assert AutoTokenizer.from_pretrained(context.out).chat_template is None
    assert [result["gate"] for result in context.gate_results][-2:] == [
        "specials_from_text",
        "tiktoken_ranks",
    ]


def test_facts_and_problems_need_no_run(tmp_path):
    stage = Tokenizer(documents="curate", vocab_size=400)
    assert stage.facts({}) == Facts(
        vocab_size=400, eos_token="<|endoftext|>", pad_token="<|pad|>", chat_template=True
    )
    assert list(stage.problems({})) == [] == list(stage.files())
    bad = Tokenizer(
        documents="c", vocab_size=261, min_frequency=0, limit=0, chat_template=str(tmp_path / "x")
    )
    assert [problem.path for problem in bad.problems({})] == [
        ("vocab_size",),
        ("min_frequency",),
        ("limit",),
        ("chat_template",),
    ]
    assert list(bad.files()) == [tmp_path / "x"]


def test_the_smallest_vocabulary_is_bytes_and_specials(tmp_path):
    context, figures = run(tmp_path, vocab_size=262)
    assert list(Tokenizer(documents="curate", vocab_size=262).problems({})) == []
    assert figures["vocab_size"] == 262 and figures["bytes_per_token"] == 1


def test_specials_stand_where_they_are_asked_for(tmp_path):
    context, figures = run(
        tmp_path, vocab_size=None, specials={"<|endoftext|>": 300, "<|mine|>": 310}
    )
    tokenizer = AutoTokenizer.from_pretrained(context.out)
    assert figures["vocab_size"] == len(tokenizer) == 311 and tokenizer.vocab_size == 300
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|pad|>", "<|mine|>"]) == [
        300,
        301,
        310,
    ]
    assert tokenizer.convert_ids_to_tokens(309) == "<|reserved_309|>"
    assert "<|mine|>" in tokenizer.all_special_tokens


def test_a_layout_that_is_not_filled_keeps_its_specials(tmp_path):
    with pytest.raises(GateError, match=r"measured \d+, must be 5000 learnt ids"):
        run(tmp_path / "stop", vocab_size=None, specials={"<|endoftext|>": 5000})
    context, figures = run(
        tmp_path / "warn", vocab_size=None, specials={"<|endoftext|>": 5000}, gates="warn"
    )
    tokenizer = AutoTokenizer.from_pretrained(context.out)
    assert tokenizer.eos_token_id == 5000 and figures["vocab_size"] == len(tokenizer) == 5006
    assert tokenizer.convert_ids_to_tokens(4999) == "<|reserved_4999|>"


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({}, "vocab_size"),
        ({"vocab_size": 400, "preset": "gpt4"}, "preset"),
        ({"preset": "gpt4", "pattern": "llama3"}, "pattern"),
        ({"specials": {"<|pad|>": 400}}, "specials"),
        ({"from_tiktoken": "gpt2", "individual_digits": True}, "individual_digits"),
        ({"from_tiktoken": "nowhere.tiktoken"}, "from_tiktoken"),
        ({"vocab_size": 400, "documents": None}, "documents"),
    ],
)
def test_what_contradicts_itself_is_told_before_anything_runs(keys, path):
    problems = list(Tokenizer(**{"documents": "curate", **keys}).problems({}))
    assert [problem.path for problem in problems] == [(path,)]


def test_the_presets_facts_are_gpt4s():
    assert Tokenizer(preset="gpt4").facts({}).vocab_size == 100_277
    gpt2 = Tokenizer(from_tiktoken="gpt2", chat_template=None).facts({})
    assert (gpt2.vocab_size, gpt2.pad_token) == (50_257, None)
    assert Tokenizer(from_tiktoken="gpt2").facts({}).vocab_size == 50_262
    assert Tokenizer(from_tiktoken="o200k_base").facts({}).vocab_size == 200_019


def test_its_ranks_make_the_same_tokenizer_again(made, tmp_path):
    context, _ = made
    ranks = str(context.out / "tiktoken" / "ranks.tiktoken")
    again, figures = run(tmp_path, vocab_size=None, from_tiktoken=ranks, pattern="gpt4")
    texts = [*TEXTS, "slower widest é\n 12345 <|end|>"]
    first, second = (AutoTokenizer.from_pretrained(each.out) for each in (context, again))
    assert [first.encode(t) for t in texts] == [second.encode(t) for t in texts]
    assert (figures["documents"], figures["vocab_size"]) == (300, 400)
    with pytest.raises(InputError, match="say `pattern:`"):
        run(tmp_path / "other", vocab_size=None, from_tiktoken=ranks)


def test_ranks_alone_need_no_documents(made, tmp_path):
    context, _ = made
    keys = {"from_tiktoken": str(context.out / "tiktoken" / "ranks.tiktoken"), "pattern": "gpt4"}
    stage = Tokenizer(**keys, chat_template=None)
    assert list(stage.problems({})) == [] and list(stage.files()) == [
        context.out / "tiktoken" / "ranks.tiktoken"
    ]
    figures = stage.run(Context(name="tokenizer", out=tmp_path))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert figures["vocab_size"] == len(tokenizer) == 395  # end-of-text, and nothing else
    assert tokenizer.pad_token is None and tokenizer.eos_token_id == 394


def test_more_memory_than_the_machine_has_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(training_estimate, "machine_memory", lambda: 100_000_000)
    with pytest.raises(InputError, match=r"has 0.1 GB; set limit to \d+ or fewer"):
        run(tmp_path)


def test_compression_by_kind_of_text_is_figures_and_a_table(made):
    context, figures = made
    table = json.loads((context.logs / "compression.json").read_text())
    kinds = [row["domain"] for row in table["domains"]]
    assert kinds[0] == "documents" and "probe: korean" in kinds
    assert figures["bytes_per_token/documents"] == figures["bytes_per_token"]
    pictured = table["picture"][0]["tokens"]
    assert "".join(text for text, _ in pictured[:5]) in TEXTS[0] and len(pictured) > 10
    told = [line.split()[0] for line in table["left_out"]]
    told += [name for name in table["domains"][0]["bytes_per_token"] if name != "own"]
    assert sorted(told) == ["cl100k_base", "gpt2"]


@pytest.mark.slow
def test_it_loads_beside_a_gpt2_where_llmkit_is_not_importable(made, tmp_path):
    context, _ = made
    (context.out / "config.json").write_text('{"model_type": "gpt2", "vocab_size": 400}')
    program = """
import json, sys
sys.modules["llmkit"] = None  # importing it fails from here on, installed or not
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
print(json.dumps(tokenizer("Garden 1953, it's\\n\\n<|end|>")["input_ids"]))
"""
    # -I leaves out the working folder, PYTHONPATH and user packages.
    command = [sys.executable, "-I", "-c", program, str(context.out)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ}, check=False
    )
    (context.out / "config.json").unlink()
    assert done.returncode == 0, done.stderr
    expected = AutoTokenizer.from_pretrained(context.out)("Garden 1953, it's\n\n<|end|>")
    assert json.loads(done.stdout) == expected["input_ids"]
