"""Validation documents are found in other sets as a plain search by Python's sets finds them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from llmkit.data.tokens import contamination as module
from llmkit.data.tokens.contamination import WINDOW, Contamination, contamination
from llmkit.data.tokens.shard_files import ShardWriter, write_json
from llmkit.data.tokens.shards import TokenStream

EOS, VOCABULARY = 499, 500
Documents = Sequence[Sequence[int]]
CHOOSE = random.Random(0)


def documents(count: int, shortest: int = 20, longest: int = 90) -> list[list[int]]:
    lengths = [CHOOSE.randint(shortest, longest) for _ in range(count)]
    return [[CHOOSE.randrange(EOS) for _ in range(length)] for length in lengths]


def stream(folder: Path, rows: Documents, split: str = "train") -> TokenStream:
    """Shards of 300 tokens, so that many documents lie near the end of one."""
    (folder / "scratch").mkdir(parents=True)
    splits = {}
    for name in ("train", "validation"):
        writer = ShardWriter(
            folder, folder / "scratch", name, vocab_size=VOCABULARY, eos=EOS, shard_tokens=300
        )
        writer.add(
            rows if name == split else [[1, 2, 3]], [1] * (len(rows) if name == split else 1)
        )
        splits[name] = writer.finish()
    head = {"dtype": "uint16", "vocab_size": VOCABULARY, "eos_token_id": EOS, "context_length": 8}
    write_json(folder / "index.json", {**head, "splits": splits})
    return TokenStream(folder, split)


def windows(ids: Sequence[int]) -> list[tuple[int, ...]]:
    return [tuple(ids[at : at + WINDOW]) for at in range(len(ids) - WINDOW + 1)]


def by_hand(held_out: Documents, trained: Sequence[Documents]) -> tuple[int, int]:
    """Judged and found, by the definition."""
    known = {w for rows in trained for row in rows for w in windows([*row, EOS])}
    counts = [[window in known for window in windows([*row, EOS])] for row in held_out]
    judged = [count for count in counts if count]
    return len(judged), sum(sum(count) >= len(count) / 2 for count in judged)


def test_found_as_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, cut, changed and far changed documents, some too short; in two sets, in any chunks."""
    held_out = [*documents(40), *documents(5, 3, 10)]
    begun = [row[: int(len(row) * CHOOSE.uniform(0.3, 0.9))] for row in held_out[10:20]]
    changed = [[*row[:9], 7, *row[10:]] for row in held_out[20:30]]
    mixed = [*documents(50), *held_out[:10], *begun, *changed]
    CHOOSE.shuffle(mixed)
    trained = [mixed[:40], [*mixed[40:], *held_out[40:]]]
    expected = by_hand(held_out, trained)
    assert expected[0] == 40 and 15 < expected[1] < 30
    validation = stream(tmp_path / "v", held_out, "validation")
    sets = [stream(tmp_path / str(number), rows) for number, rows in enumerate(trained)]
    for chunk in (37, 1000, 2**17):
        monkeypatch.setattr(module, "CHUNK", chunk)
        found = contamination(validation, sets, "looking")
        assert (found.judged, found.found) == expected
        assert found.read == found.tokens == sum(each.tokens for each in sets)
    assert found.share == expected[1] / 40
    assert contamination(validation, sets[:1], "looking").found < expected[1]


def test_much_text_is_read_in_part_and_evenly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is found in a part stands for the whole, and no more is read than the bound says."""
    held_out = documents(100, 30, 40)
    other = documents(300, 30, 40)
    both = [row for three in zip(held_out, *[iter(other)] * 3, strict=True) for row in three]
    validation, training = (
        stream(tmp_path / "v", held_out, "validation"),
        stream(tmp_path / "t", both),
    )
    monkeypatch.setattr(module, "PIECE", 500)
    monkeypatch.setattr(module, "READ", training.tokens // 4)
    asked: list[tuple[int, int]] = []
    read = TokenStream.windows

    def record(self: TokenStream, starts, length):  # type: ignore[no-untyped-def]
        asked.append((int(starts[0]), length))
        return read(self, starts, length)

    monkeypatch.setattr(TokenStream, "windows", record)
    found = contamination(validation, [training], "looking")
    assert found.read == sum(length for _, length in asked) <= training.tokens // 4
    assert max(start for start, _ in asked) > training.tokens * 0.8
    assert min(start for start, _ in asked) < training.tokens * 0.3
    assert 10 < found.found < 40 and 0.5 < found.share < 1.5
    assert "% of the training text" in str(found)


def test_of_many_validation_documents_some_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = documents(60)
    validation, training = (
        stream(tmp_path / "v", held_out, "validation"),
        stream(tmp_path / "t", held_out),
    )
    monkeypatch.setattr(module, "LOOKED_FOR", validation.tokens // 6)
    found = contamination(validation, [training], "looking")
    assert 7 <= found.judged <= 10 and found.found == found.judged


def test_short_documents_are_not_judged_and_shares_have_an_end(tmp_path: Path) -> None:
    short = documents(9, 2, 5)
    validation, training = (
        stream(tmp_path / "v", short, "validation"),
        stream(tmp_path / "t", short),
    )
    found = contamination(validation, [training], "looking")
    assert (found.judged, found.found, found.share) == (0, 0, 0.0)
    assert Contamination(judged=2, found=2, read=10, tokens=100).share == 1.0


def test_what_the_own_training_split_holds_too_tells_nothing(tmp_path: Path) -> None:
    """A notice on many pages, and near-duplicates that the set's own division has let through."""
    held_out, own, alone = documents(20, 40, 60), documents(30, 40, 60), documents(6, 40, 60)
    near = [[*row[:-1], 7] for row in held_out[:8]]  # of the first eight, in both sets
    twice = [[*row[:20], 9, *row[21:]] for row in held_out[8:12]]  # of the next four, in the other
    validation = stream(tmp_path / "v", held_out, "validation")
    trained = stream(tmp_path / "o", [*own, *near])
    same = stream(tmp_path / "s", [*own, *near])
    other = stream(tmp_path / "t", [*near, *twice, *alone])
    assert contamination(validation, [same], "looking").found == 8
    assert contamination(validation, [same], "looking", trained).found == 0
    found = contamination(validation, [other], "looking", trained)
    assert found.found == 4 and 12 <= found.judged <= 20
