"""Guarded streams: equal to the standard library on whole files, and a named end on broken ones."""

import gzip
import io
import random

import pyarrow as pa
import pytest

from llmkit.data.sources import guarded
from llmkit.data.sources.guarded import Damaged, Gunzip, packing_of, unpacked

TEXT = b"".join(b"line %d of a file\n" % n for n in range(5000))


def zstd(content):
    return bytes(pa.Codec("zstd").compress(content, asbytes=True))


def stream(packed, packing="gz", **more):
    return io.BufferedReader(unpacked(io.BytesIO(packed), packing, "a.gz", **more))


def starts_warc(head):
    return head.startswith(b"WARC/")


@pytest.mark.parametrize("padding", [b"", b"\0" * 600])
def test_members_one_after_another_are_one_content(padding):
    rng = random.Random(0)
    parts = [rng.randbytes(n) for n in (0, 1, 70_000, 5, 200_000)] + [TEXT]
    packed = b"".join(gzip.compress(part) for part in parts) + padding
    assert stream(packed).read() == b"".join(parts) == gzip.decompress(packed)


@pytest.mark.parametrize("dictionary", [False, True])
def test_zstd_frames_one_after_another_are_one_content(dictionary):
    if dictionary:
        pytest.importorskip("fastwarc")
    packed = zstd(TEXT) + zstd(b"more")
    assert stream(packed, "zst", dictionary=dictionary).read() == TEXT + b"more"


def test_what_is_before_the_damage_comes_through():
    packed = gzip.compress(TEXT)
    lines, broken = [], stream(packed[:-3000])
    with pytest.raises(Damaged, match=r"a\.gz: cannot be read: the gzip data ends early") as error:
        lines.extend(iter(broken.readline, b""))
    assert error.value.reason == "truncated"
    assert lines and lines == TEXT.splitlines(keepends=True)[: len(lines)]


@pytest.mark.parametrize(
    ("packed", "packing", "reason"),
    [
        (gzip.compress(TEXT)[:-1], "gz", "truncated"),
        (gzip.compress(TEXT)[:-8] + b"\0" * 8, "gz", "corrupt"),  # a false checksum
        (gzip.compress(TEXT) + b"no gzip", "gz", "corrupt"),
        (b"plain text", "gz", "corrupt"),
        (b"\x1f", "gz", "corrupt"),
        (zstd(TEXT)[:-9], "zst", "truncated"),
        (b"plain text", "zst", "corrupt"),
    ],
    ids=["cut", "checksum", "tail", "no gzip", "one byte", "zstd cut", "no zstd"],
)
def test_damage_has_a_reason(packed, packing, reason):
    with pytest.raises(Damaged) as error:
        stream(packed, packing).read()
    assert error.value.reason == reason


@pytest.fixture
def burst(monkeypatch):
    monkeypatch.setattr(guarded, "BURST", 1 << 20)
    return 1 << 20


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_a_bomb_does_not_go_off(packing, burst):
    content = b"\0" * (8 * burst)
    packed = zstd(content) if packing == "zst" else gzip.compress(content)
    given, broken = 0, stream(packed, packing)
    with pytest.raises(Damaged, match="decompression bomb") as error:
        while more := broken.read1(burst):
            given += len(more)
    assert error.value.reason == "bomb" and given < 2 * burst


def test_a_bomb_behind_tame_members_has_no_credit_from_them(burst):
    tame = gzip.compress(random.Random(0).randbytes(300_000))
    broken = stream(tame + gzip.compress(b"\0" * (8 * burst)))
    with pytest.raises(Damaged, match="decompression bomb"):
        broken.read()


def test_a_long_file_that_packs_well_is_no_bomb(burst):
    content = b"".join(b"%d " % n + b"the same words again and again " * 6 for n in range(60000))
    packed = gzip.compress(content)
    assert len(content) > 8 * burst and 50 < len(content) / len(packed) < guarded.RATIO
    assert stream(packed).read() == content


def test_resync_goes_on_at_the_next_member_that_begins_as_asked():
    first, other, last = (gzip.compress(x) for x in (b"WARC/1 a" * 99, b"junk", b"WARC/1 b"))
    broken = first[:40] + b"\xff" * 9 + first[49:]
    source = Gunzip(io.BytesIO(broken + other + last), "a.gz")
    with pytest.raises(Damaged):
        io.BufferedReader(source).read()
    source = Gunzip(io.BytesIO(broken + other + last), "a.gz")
    reader = io.BufferedReader(source)
    with pytest.raises(Damaged):
        reader.read()
    reader.detach()
    assert source.resync(starts_warc)
    assert io.BufferedReader(source).read() == b"WARC/1 b"


def test_resync_ends_the_stream_where_no_member_follows():
    source = Gunzip(io.BytesIO(gzip.compress(TEXT)[:-20] + b"\x1f\x8b\x08junk"), "a.gz")
    reader = io.BufferedReader(source)
    with pytest.raises(Damaged):
        reader.read()
    reader.detach()
    assert not source.resync(starts_warc)
    assert source.read(10) == b""


def test_packing_by_the_first_bytes(tmp_path):
    for name, content in {"gz": gzip.compress(b"x"), "zst": zstd(b"x"), "": b"WARC/1.0"}.items():
        (tmp_path / "file").write_bytes(content)
        assert packing_of(tmp_path / "file") == name
