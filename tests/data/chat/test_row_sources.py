"""Parts of all rows, and mixes of several sources, whatever the rows are."""

from __future__ import annotations

from llmkit.data.chat.row_sources import mixed, sliced


def test_parts_cover_the_whole_without_overlap() -> None:
    rows = list(range(37))
    assert sliced(rows, "[:85%]") + sliced(rows, "[85%:]") == rows


def test_without_weights_all_rows_come_once() -> None:
    groups = [["a", "b"], ["c"]]
    assert mixed(groups, [None, None], 0) == ["a", "b", "c"]


def test_weights_are_shares_of_the_mix() -> None:
    big, small = list(range(90)), list(range(100, 110))
    rows = mixed([big, small], [1.0, 3.0], 7)
    assert len(rows) == 100
    from_big, from_small = [n for n in rows if n < 100], [n for n in rows if n >= 100]
    assert len(from_big) == 25 == len(set(from_big))  # 25 of 90 drawn, none twice
    counts = sorted(from_small.count(n) for n in range(100, 110))
    assert counts == [7] * 5 + [8] * 5  # 75 rows: ten come 7 times, five of them once more
    assert rows == mixed([big, small], [1.0, 3.0], 7)
    assert rows != mixed([big, small], [1.0, 3.0], 8)
