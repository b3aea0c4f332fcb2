"""Quarantine: everything is counted, the first ones are named, the record is reproducible."""

from llmkit.data.sources.quarantine import NAMED, Quarantine


def test_parts_added_in_order_equal_one_reading_of_all():
    whole, added = Quarantine(), Quarantine()
    for part in range(3):
        piece = Quarantine()
        for number in range(60):
            for quarantine in (whole, piece):
                quarantine.set_aside(f"{part}:{number}", ("truncated", "bomb")[number % 2], "why")
                quarantine.pass_over("request")
        added.add(piece)
    assert added == whole
    assert whole.counts == {"truncated": 90, "bomb": 90} and whole.passed_over == {"request": 180}
    assert len(whole.named) == NAMED


def test_the_record_is_sorted_by_reason():
    quarantine = Quarantine()
    quarantine.set_aside("b.gz", "truncated", "the gzip data ends early")
    quarantine.set_aside("a.gz", "bomb")
    assert list(quarantine.report()["set_aside"]) == ["bomb", "truncated"]
    assert quarantine.report()["first"][0] == {
        "where": "b.gz",
        "reason": "truncated",
        "detail": "the gzip data ends early",
    }
