"""The benchmarks run, at tiny sizes, and write what they say they write."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from archives import http, warc

ROOT = Path(__file__).parent.parent


def _run(script: str, output: Path, *arguments: str) -> dict[str, object]:
    command = [sys.executable, f"benchmarks/{script}", "--output", str(output), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(output.read_text())


@pytest.mark.slow
def test_cpu_basics_times_every_variant_in_one_table(tmp_path: Path) -> None:
    sizes = {"layers": 1, "width": 32, "vocab-size": 101, "context": 16, "batch": 2, "steps": 1}
    arguments = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    result = _run("cpu_basics.py", tmp_path / "result.json", *arguments)
    rows = result["rows"]
    assert isinstance(rows, list) and len(rows) == 8
    assert rows[0]["variant"] == "stock" and rows[0]["against_stock"] == 1
    assert all(row["tokens_per_second"] > 0 for row in rows)
    assert {"machine", "foreign_cpu_share", "disturbed", "date"} <= result.keys()


@pytest.mark.slow
def test_startup_times_the_commands_and_finds_no_torch(tmp_path: Path) -> None:
    result = _run("startup.py", tmp_path / "result.json", "--repeats", "1")
    median = result["median_seconds"]
    assert isinstance(median, dict)
    assert "llmkit --help" in median and all(value > 0 for value in median.values())


@pytest.mark.slow
def test_decode_times_every_variant_that_agrees(tmp_path: Path) -> None:
    sizes = {"layers": 1, "width": 32, "vocab-size": 101, "prompt": 8, "new-tokens": 6}
    arguments = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    arguments += ["--repeats", "1", "--batches", "1", "9"]
    result = _run("decode.py", tmp_path / "result.json", *arguments)
    rows = result["rows"]
    assert isinstance(rows, list) and len(rows) == 2 * 2 * 3
    assert {row["variant"] for row in rows} == {"generate", "generate, static cache", "llmkit"}
    assert all(row["against_generate"] == 1 for row in rows if row["variant"] == "generate")
    assert all(row["tokens_per_second"] > 0 for row in rows)


@pytest.mark.slow
def test_gpu_dry_run_ends_every_section_well(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="no triton here: pip install 'llmkit[gpu]'")
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(tmp_path), "--dry-run"]
    command += ["--in-process", "--minutes", "60"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    summary = json.loads((tmp_path / "summary.json").read_text())
    sections = summary["sections"]
    assert list(sections) == [
        "correctness", "ablation", "end_to_end_124m", "end_to_end_1558m", "profile", "kernels",
    ]  # fmt: skip
    for name, section in sections.items():
        assert section["status"] == "ok", section
        assert json.loads((tmp_path / f"{name}.json").read_text()) == section
    assert all(row["ok"] for row in sections["correctness"]["result"]["rows"])
    assert summary["environment"]["dry_run"] is True


@pytest.mark.slow
def test_a_section_in_a_process_of_its_own_is_recorded(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(tmp_path), "--dry-run"]
    for minutes, status in (("60", 0), ("0", 1)):
        only = ["--only", "profile", "--minutes", minutes]
        done = subprocess.run(command + only, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
        record = json.loads((tmp_path / "summary.json").read_text())["sections"]["profile"]
        assert record["status"] == ("ok" if status == 0 else "skipped"), record
        assert status == 1 or record["result"]["rows"]


@pytest.mark.slow
def test_pretraining_cpu_times_what_begins_from_the_same_loss(tmp_path: Path) -> None:
    sizes = {"layers": 1, "width": 32, "heads": 2, "vocab-size": 101, "context": 16, "batch": 2}
    arguments = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    names = ["Trainer float32", "Trainer bfloat16 + mallopt", "llmkit"]
    arguments += ["--steps", "1", "--variants", *names]
    result = _run("pretraining_cpu.py", tmp_path / "result.json", *arguments)
    rows = result["rows"]
    assert isinstance(rows, list) and [row["variant"] for row in rows] == names
    assert all(row["tokens_per_second"] > 0 for row in rows)


@pytest.mark.slow
def test_a_plain_loop_has_the_loss_of_the_model_that_it_copies() -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from benchmarks.peer_gpt import PeerGPT

    config = GPT2Config(
        vocab_size=101, n_positions=16, n_embd=32, n_layer=2, n_head=2, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model, ids = GPT2LMHeadModel(config), torch.randint(101, (2, 16))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    torch.testing.assert_close(PeerGPT(model)(ids), model(ids, labels=ids).loss)


@pytest.mark.slow
def test_head_memory_compares_stock_and_fused(tmp_path: Path) -> None:
    sizes = ["--batch", "2", "--context", "128", "--width", "32", "--vocab-size", "9001"]
    result = _run("head_memory.py", tmp_path / "result.json", *sizes)
    assert 0 < result["share"] < 1


@pytest.mark.slow
@pytest.mark.parametrize("part", ["encode", "forms", "train", "stage"])
def test_tokenizing_times_what_agrees(tmp_path: Path, part: str) -> None:
    text = "".join(f"The {i}th word of {i * 7} is {chr(97 + i % 26)}{i:x}.\n" for i in range(9000))
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    sizes = ["--text", str(tmp_path), "--megabytes", "0.2", "--vocab-size", "400"]
    result = _run("tokenizing.py", tmp_path / "result.json", "--part", part, *sizes)
    rows = result["rows"]
    assert isinstance(rows, list) and len(rows) >= 2
    measured = {"encode": "mb_per_second", "stage": "mb_per_second"}.get(part, "seconds")
    assert all(row[measured] > 0 for row in rows)


@pytest.mark.slow
def test_reader_times_every_variant(tmp_path: Path) -> None:
    sizes = ["--tokens", "40000", "--batch", "4", "--lengths", "16", "64"]
    rows = _run("reader.py", tmp_path / "result.json", *sizes)["rows"]
    assert isinstance(rows, list) and len(rows) == 2 * 5
    assert all(row["tokens_per_second"] > 0 for row in rows)


@pytest.mark.slow
def test_minhash_finds_what_the_formula_says(tmp_path: Path) -> None:
    sizes = ["--documents", "1500", "--pairs", "60"]
    result = _run("minhash.py", tmp_path / "result.json", *sizes)
    recall = result["recall_by_similarity"]
    assert isinstance(recall, dict) and list(recall) == ["0.7", "0.75", "0.8", "0.85", "0.9"]
    assert recall["0.8"]["pairs"] == 60 and abs(recall["0.8"]["expected_percent"] - 92.4) < 1.5
    assert recall["0.9"]["found_percent"] > 95
    assert result["seconds"] > 0 and result["peak_mb_all_processes"] > 50
    compared = result["one_core"]
    assert isinstance(compared, dict) and compared["llmkit"]["duplicates"] > 200


@pytest.mark.slow
def test_warc_reading_times_readers_that_agree(tmp_path: Path) -> None:
    pytest.importorskip("warcio")
    pytest.importorskip("fastwarc")
    pages = [http(f"<p>page {number}, café</p>".encode()) for number in range(5)]
    archive = tmp_path / "a.warc.gz"
    archive.write_bytes(
        b"".join(gzip.compress(warc(page, number=n)) for n, page in enumerate(pages))
    )
    result = _run("warc_reading.py", tmp_path / "result.json", str(archive), "--repeats", "1")
    rows = result["rows"]
    assert isinstance(rows, list) and len(rows) == 5
    assert all(row["pages"] == 5 and row["pages_per_cpu_second"] > 0 for row in rows)
