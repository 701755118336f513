"""RecordIO as bytes: what a writer wrote is read, and what is damaged is refused."""

import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octoscale.data.importers.recordio import MAX_RECORD_BYTES, parse_index, parse_record, read_record, scan
from octoscale.errors import OctoscaleError
from tests.unit.data.importers.record_writer import MAGIC, frame, payload, record

# Contents that hold the magic number, aligned or not, more often than by chance.
contents = st.lists(st.sampled_from([MAGIC, b"", b"a", b"\0\0\0\0", b"wxyz"]) | st.binary(max_size=9)).map(b"".join)


def offsets_of(records: list[bytes]) -> list[int]:
    return np.cumsum([0, *map(len, records[:-1])]).tolist()


@given(st.lists(contents, min_size=1))
def test_what_was_written_is_found_and_read(written: list[bytes]) -> None:
    records = [record(content) for content in written]
    data = b"".join(records)

    starts = scan(lambda start, end: data[start:end], len(data), "x.rec")

    assert starts.tolist() == offsets_of(records)
    assert [read_record(data, start, "x.rec") for start in starts.tolist()] == written


def test_a_record_in_four_parts_gets_its_magic_numbers_back() -> None:
    content = MAGIC + b"abcd" + MAGIC + MAGIC + b"e"

    data = frame(1, b"") + frame(2, b"abcd") + frame(2, b"") + frame(3, b"e")

    assert record(content) == data
    assert read_record(data, 0, "x") == content


def test_records_longer_than_a_block_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octoscale.data.importers.recordio._BLOCK_BYTES", 64)
    records = [record(bytes(size)) for size in (1, 500, 3, 60, 0, 7)]
    data = b"".join(records)
    reads: list[int] = []

    def read_range(start: int, end: int) -> bytes:
        reads.append(end - start)
        return data[start:end]

    assert scan(read_range, len(data), "x").tolist() == offsets_of(records)
    assert max(reads) == 64


@given(
    st.binary(max_size=80) | st.lists(contents, max_size=3).map(lambda parts: b"".join(map(record, parts))), st.data()
)
def test_damaged_bytes_are_refused_or_read_but_never_crash(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    if damaged:
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] ^= draw.draw(st.integers(1, 255))
    end = draw.draw(st.integers(0, len(damaged)))
    for attempt in (
        lambda: scan(lambda first, last: bytes(damaged[first : min(last, end)]), end, "x"),
        lambda: read_record(bytes(damaged[:end]), 0, "x"),
        lambda: parse_record(bytes(damaged), "x"),
    ):
        with suppress(OctoscaleError):
            attempt()


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"PK\3\4" + bytes(20), r"0x04034b50 instead of the magic number 0xced7230a"),
        (record(b"abcdefgh")[:-4], "truncated"),
        (record(b"abcdefgh")[:6], "truncated"),
        (MAGIC + struct.pack("<I", MAX_RECORD_BYTES + 1) + bytes(99), "67,108,865 bytes; the file is damaged"),
        (MAGIC + struct.pack("<I", 7 << 29 | 4) + bytes(4), "kind 7"),
        (frame(2, b"abcd"), "not in order"),
        (frame(1, b"abcd") + frame(0, b"abcd"), "not in order"),
        (frame(1, b"abcd"), "truncated"),
    ],
)
def test_a_damaged_file_is_refused_with_the_place(data: bytes, cause: str) -> None:
    with pytest.raises(OctoscaleError, match=cause):
        scan(lambda start, end: data[start:end], len(data), "x.rec")
    with pytest.raises(OctoscaleError, match=cause):
        read_record(data, 0, "x.rec")


def test_a_record_of_too_many_parts_is_refused() -> None:
    data = frame(1, bytes(40 * 2**20)) + frame(3, bytes(40 * 2**20))

    with pytest.raises(OctoscaleError, match="more than 67,108,864 bytes"):
        read_record(data, 0, "x.rec")


def test_labels_are_one_number_or_an_array() -> None:
    one, many = parse_record(payload(7.0, b"jpeg"), "x"), parse_record(payload([3.0, 0.5], b"jpeg"), "x")

    assert (one.labels.tolist(), one.image) == ([7.0], b"jpeg")
    assert (many.labels.tolist(), many.image) == ([3.0, 0.5], b"jpeg")
    assert parse_record(payload([1.0, 2.0]), "x").image == b""


def test_more_labels_than_bytes_are_refused() -> None:
    with pytest.raises(OctoscaleError, match="4,294,967,295 labels in 24 bytes"):
        parse_record(struct.pack("<IfQQ", 2**32 - 1, 0, 0, 0), "x")
    with pytest.raises(OctoscaleError, match="5 bytes are no image record"):
        parse_record(b"short", "x")


@given(st.dictionaries(st.integers(0, 2**40), st.integers(0, 999), min_size=1), st.randoms())
def test_an_index_is_sorted_by_key(table: dict[int, int], rng: object) -> None:
    offsets = dict(zip(table, range(len(table)), strict=True))
    lines = [f"{key}\t{offset}\n" for key, offset in offsets.items()]
    rng.shuffle(lines)  # type: ignore[attr-defined]

    keys, starts = parse_index("".join(lines).encode(), 1000, "x.idx")

    assert keys.tolist() == sorted(offsets)
    assert starts.tolist() == [offsets[key] for key in sorted(offsets)]


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "empty"),
        (b"0\t0\n1\t1000\n", "beyond the 1,000 bytes"),
        (b"0\t-8\n", "beyond"),
        (b"0\t0\n0\t8\n", "twice"),
        (b"0\t8\n1\t8\n", "twice"),
        (b"0 0 0\n", "not an index"),
        (b"zero\t0\n", "not an index"),
        (b"0\t99999999999999999999\n", "not an index"),
        (b"\x80\x04\x95pickle.", "not an index"),
    ],
)
def test_a_wrong_index_is_refused(data: bytes, cause: str) -> None:
    with pytest.raises(OctoscaleError, match=cause):
        parse_index(data, 1000, "x.idx")


@given(st.binary(max_size=60))
def test_any_bytes_as_an_index_are_read_or_refused(data: bytes) -> None:
    try:
        keys, starts = parse_index(data, 1000, "x.idx")
    except OctoscaleError:
        return
    assert len(keys) == len(starts) > 0
    assert 0 <= starts.min() <= starts.max() < 1000
