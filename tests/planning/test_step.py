"""A step that ranks cannot share out is told as `llmkit run` would, and what is advised does go."""

from __future__ import annotations

from pathlib import Path

import pytest
from plans import gpt2, planned

from llmkit.errors import UserError
from llmkit.plan import Plan
from llmkit.planning.step import fewer_rows, near_divisors, nearest_multiple
from llmkit.trainers.arguments import accumulation_steps

STEP = 524288
ROWS = "pretrain.args.per_device_train_batch_size"


def at(folder: Path, hardware: str, step: int = STEP, rows: int = 64) -> Plan:
    stages = gpt2(12, 768, 12, f"    tokens_per_step: {step}\n", ", max_steps: 10")
    return planned(folder, stages, hardware, price=2.0, overrides=[f"{ROWS}={rows}"])


def advice(found: Plan) -> list[str]:
    notes = found["pretrain"].notes
    return [note.removeprefix("would go: ") for note in notes if note.startswith("would go: ")]


@pytest.mark.parametrize("hardware", ["7xA100", "3xL4", "16xA100"])
def test_it_says_that_the_run_stops_and_counts_nothing(hardware: str, tmp_path: Path) -> None:
    ranks = int(hardware.split("x")[0])
    with pytest.raises(UserError, match="no multiple"):
        accumulation_steps(STEP, 64, 1024, ranks, "")
    found = at(tmp_path, hardware)
    stage = found["pretrain"]
    assert stage.stops and stage.hours is stage.tokens is stage.dollars is None
    assert found.hours is found.dollars is None and " stops " in found.table()
    (total,) = (line for line in found.table().splitlines() if line.startswith("all "))
    assert set(total.split()) == {"all", "-"}
    assert any(note.startswith("WOULD STOP: tokens_per_step 524,288") for note in stage.notes)


def test_what_runs_is_not_said_to_stop(tmp_path: Path) -> None:
    stage = at(tmp_path, "8xA100")["pretrain"]
    assert not stage.stops and stage.tokens == 10 * STEP
    assert "WOULD STOP" not in "".join(stage.notes)


@pytest.mark.parametrize(
    ("hardware", "ways"),
    [
        # 2^19 tokens are 8 passes of 64 rows: for 1, 2, 4 or 8 ranks. No rows share it among 3.
        ("3xL4", ["tokens_per_step: 589824", "2xL4 or 4xL4"]),
        ("7xA100", ["tokens_per_step: 458752", "4xA100 or 8xA100"]),
        (
            "16xA100",
            [
                "args.per_device_train_batch_size: 32",
                "tokens_per_step: 1048576",
                "8xA100",
            ],
        ),
    ],
)
def test_what_would_go_does_go(hardware: str, ways: list[str], tmp_path: Path) -> None:
    """Each way by itself, planned again and by the rule of the run."""
    assert advice(at(tmp_path, hardware)) == ways
    for way in ways:
        key, _, value = way.partition(": ")
        changed = {"tokens_per_step": {"step": int(value)}} if value else {}
        if key.endswith("batch_size"):
            changed = {key: {"rows": int(value)}}
        for other in [hardware] if value else way.split(" or "):
            more = changed.get(key, {})
            assert not at(tmp_path, other, **more)["pretrain"].stops
            ranks = int(other.split("x")[0])
            assert accumulation_steps(more.get("step", STEP), more.get("rows", 64), 1024, ranks, "")


def test_fewer_rows_for_memory_leave_the_step_whole(tmp_path: Path) -> None:
    """2 rows in place of 5 would fit too, but 5 x 1,024 tokens are no passes of 2 rows."""
    stages = gpt2(48, 1600, 25, "    tokens_per_step: 5120\n", ", max_steps: 10")
    changes = [f"{ROWS}=5", "pretrain.args.optim=adafactor"]
    stage = planned(tmp_path, stages, "4090", overrides=changes)["pretrain"]
    assert stage.fits is False
    rows = [note for note in stage.notes if ROWS.removeprefix("pretrain.") in note]
    assert rows == ["would fit: args.per_device_train_batch_size: 1"]


def test_what_fits_where_the_step_stops_does_go_too(tmp_path: Path) -> None:
    """Fewer rows would fit on three ranks, or three larger GPUs, and the run would stop there."""
    stage = at(tmp_path, "3xT4")["pretrain"]
    assert stage.stops and stage.fits is False
    (told,) = [note for note in stage.notes if "fit" in note.lower()]
    assert told.endswith("to give; settle the step first, and plan again")
    # 16 ranks share it out with half the rows, and then it may as well be fewer for memory's sake.
    stage = at(tmp_path, "16xT4")["pretrain"]
    ways = [note for note in stage.notes if note.startswith("would fit: ")]
    assert stage.stops and stage.fits is False and ways
    for way in ways:
        rows = int(way.split("batch_size: ")[1].split()[0])
        assert accumulation_steps(STEP, rows, 1024, 16, "")
    assert not at(tmp_path, "16xT4", rows=16)["pretrain"].stops


def test_by_hand() -> None:
    assert nearest_multiple(100, 40) == 80 and nearest_multiple(110, 40) == 120
    assert nearest_multiple(7, 40) == 40
    assert fewer_rows(60, 8, 5) == 6 and fewer_rows(7, 8, 5) is None
    assert near_divisors(60, 5, 5) == [4, 6] and near_divisors(60, 5, 24) == [12]
    assert near_divisors(61, 5, 5) == []
