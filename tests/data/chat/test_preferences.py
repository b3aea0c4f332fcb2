"""Sources of preference pairs: files, bad rows by line, tinyworld, real data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmkit.build import Builder, load
from llmkit.data.chat.preferences import (
    PREFERENCES,
    HubPreferences,
    Pair,
    PathPreferences,
    TinyworldPreferences,
    gathered,
    kinds,
)
from llmkit.data.sources.readers import BadRows
from llmkit.data.tinyworld.preferences import PairMix
from llmkit.errors import InputError
from llmkit.schema import Keyed

REAL = Path(__file__).resolve().parents[3] / "../shared/data"
TABLE = Keyed("llmkit.data.chat.preferences:PREFERENCES")


def row(number: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"q{number}", "chosen": "a", "rejected": "b", **more}


def write(file: Path, *rows: Any) -> str:
    file.write_text("".join(json.dumps(line) + "\n" for line in rows))
    return str(file)


def asked(pairs: list[Pair]) -> list[str]:
    return [pair.prompt[-1]["content"] for pair in pairs]


def test_tables_name_classes_with_their_key() -> None:
    for key, target in PREFERENCES.items():
        assert key in load(target).__dataclass_fields__


def test_a_recipe_builds_them() -> None:
    builder = Builder()
    items: list[Any] = [
        {"tinyworld": "preferences", "num_pairs": 9, "mix": {"wrong_sum": 0.5, "verbose": 0.1}},
        {"path": "x.jsonl", "split": "[:90%]", "weight": 2.0},
    ]
    built = builder.listed(TABLE, items, ("dataset",))
    assert not builder.problems and [source.label for source in built] == [
        "tinyworld:train",
        "path:x.jsonl",
    ]
    builder.listed(TABLE, [{"tinyworld": "preferences", "mix": {"wrong_sums": 0.1}}], ("dataset",))
    builder.listed(TABLE, [{"tinyworld": "conversations"}], ("dataset",))
    builder.listed(TABLE, [{"path": "x", "language": "en"}], ("dataset",))
    told = [str(problem) for problem in builder.problems]
    assert "did you mean wrong_sum?" in told[0]
    assert "dataset[0].tinyworld: must be one of preferences" in told[1]
    assert "dataset[0].language: no such key" in told[2]


def test_slices_of_files_parquet_as_json(tmp_path: Path) -> None:
    rows = [row(n) for n in range(10)]
    pq.write_table(pa.Table.from_pylist(rows[5:]), tmp_path / "b.parquet")
    write(tmp_path / "a.jsonl", *rows[:5])
    source = PathPreferences(path=str(tmp_path), split="[30%:60%]")
    assert asked(source.pairs({}, {}, 0, BadRows())) == ["q3", "q4", "q5"]
    assert source.pairs({}, {}, 0, BadRows())[0] == Pair(
        [{"role": "user", "content": "q3"}], "a", "b"
    )


def test_bad_rows_are_named_by_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", row(0), row(1, rejected="a"), row(2, chosen=" "), row(3))
    bad_rows = BadRows(allowed=2)
    assert asked(PathPreferences(path=path).pairs({}, {}, 0, bad_rows)) == ["q0", "q3"]
    assert bad_rows.named == [
        "a.jsonl:2: chosen and rejected are the same",
        "a.jsonl:3: chosen: message 2, the assistant's, is empty",
    ]
    with pytest.raises(InputError, match=r"a.jsonl:2: .* are the same; .*max_bad_rows \(now 0\)"):
        PathPreferences(path=path).pairs({}, {}, 0, BadRows())


def test_an_empty_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="path:a.jsonl: holds no preference pair"):
        PathPreferences(path=write(tmp_path / "a.jsonl")).pairs({}, {}, 0, BadRows())


def test_sources_are_mixed_by_weight(tmp_path: Path) -> None:
    one = PathPreferences(path=write(tmp_path / "a.jsonl", row(0)), weight=3.0)
    two = PathPreferences(path=write(tmp_path / "b.jsonl", row(1), row(2), row(3)), weight=1.0)
    assert asked(gathered([one, two], {}, {}, 0, BadRows()))[:3] == ["q0"] * 3


def test_a_hub_data_set_names_its_commit() -> None:
    source = HubPreferences(hub="a/b", revision="c0ffee")
    assert list(source.hub_data()) == [("a/b", "c0ffee")]


@pytest.mark.parametrize(
    "options", [{"num_pairs": 0}, {"limit": 0}, {"weight": 0.0}, {"mix": {"verbose": 1.5}}]
)
def test_values_out_of_range(options: dict[str, Any]) -> None:
    builder = Builder()
    builder.listed(TABLE, [{"tinyworld": "preferences", **options}], ("dataset",))
    assert len(builder.problems) == 1


def test_tinyworld_is_the_worlds_own() -> None:
    world = {"seed": 1, "people": 20}
    source = TinyworldPreferences(tinyworld="preferences", num_pairs=40)
    pairs = source.pairs(world, {}, 5, BadRows())
    assert len(pairs) == 40 and pairs == source.pairs(world, {}, 5, BadRows())
    assert pairs != source.pairs(world, {}, 6, BadRows())
    one_sort = TinyworldPreferences(
        tinyworld="preferences",
        num_pairs=40,
        mix=PairMix(
            wrong_sum=0,
            invented=1,
            false_refusal=0,
            verbose=0,
            unfinished=0,
            unasked=0,
            format=0,
        ),
    )
    assert kinds(one_sort.pairs(world, {}, 5, BadRows())) == {"invented": 40}


def test_kinds_are_counted() -> None:
    pairs = [Pair([], "a", "b", kind) for kind in ("verbose", "", "format", "verbose")]
    assert kinds(pairs) == {"format": 1, "other": 1, "verbose": 2}


@pytest.mark.skipif(not REAL.exists(), reason="no real data beside the project")
def test_real_human_transcripts() -> None:
    file, bad_rows = REAL / "splits/hh_harmless.jsonl", BadRows(20)
    pairs = PathPreferences(path=str(file)).pairs({}, {}, 0, bad_rows)
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(pairs) + bad_rows.count == len(lines) == 1500
    assert bad_rows.count == 8  # four are empty, four let the assistant speak twice in a row
    assert sum("is empty" in name for name in bad_rows.named) == 4
    first = json.loads(lines[0])
    assert first["chosen"].endswith(f"Assistant: {pairs[0].chosen}")
    assert first["rejected"].endswith(f"Assistant: {pairs[0].rejected}")
    said = first["chosen"].count("\n\nHuman:") + first["chosen"].count("\n\nAssistant:")
    assert len(pairs[0].prompt) == said - 1


@pytest.mark.skipif(not REAL.exists(), reason="no real data beside the project")
def test_real_pairs_of_which_some_are_equal() -> None:
    bad_rows = BadRows(20)
    pairs = PathPreferences(path=str(REAL / "ultrafeedback_pairs")).pairs({}, {}, 0, bad_rows)
    equal = [name for name in bad_rows.named if name.endswith("are the same")]
    empty = [name for name in bad_rows.named if name.endswith("is empty")]
    assert (len(pairs), len(equal), len(empty)) == (994, 4, 2)
    assert all(pair.chosen != pair.rejected for pair in pairs)
