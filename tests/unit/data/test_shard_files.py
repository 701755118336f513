"""Whole shards and parts of them on the disk."""

from pathlib import Path

import numpy as np
import pytest

from octoscale.data.index import Index
from octoscale.data.shard_files import ShardFiles


@pytest.fixture
def files(packed: Index) -> ShardFiles:
    return ShardFiles(packed, packed.directory)


def image(packed: Index, row: int) -> bytes:
    """The bytes of a packed image, from the shard as it was packed."""
    content = (packed.directory / packed.manifest.shards[packed.shard_ids[row]].name).read_bytes()
    return content[packed.offsets[row] :][: packed.sizes[row]]


def rows_of(packed: Index, shard: int) -> np.ndarray:
    return np.flatnonzero(packed.shard_ids == shard)


def test_a_whole_shard_holds_all_its_images(packed: Index, files: ShardFiles) -> None:
    rows = rows_of(packed, 0)

    opened = files.open(0)

    assert files.holds(0, rows)
    assert [opened.read(packed, row) for row in rows] == [image(packed, row) for row in rows]
    assert files.stored_bytes(0) == packed.manifest.shards[0].size_bytes
    assert len(files.part_rows(0)) == 0
    opened.close()


def test_what_is_kept_of_a_shard_is_read_as_before_and_takes_less_space(packed: Index, files: ShardFiles) -> None:
    rows = rows_of(packed, 0)
    kept = rows[1::2]
    expected = [image(packed, row) for row in kept]
    before = files.open(0)

    files.keep_only(0, kept)

    after = files.open(0)
    assert [after.read(packed, row) for row in kept] == expected
    assert after.read(packed, rows[0]) is None
    assert files.holds(0, kept)
    assert not files.holds(0, rows)
    assert not files.whole(0).exists()
    assert files.stored_bytes(0) <= sum(map(len, expected)) + 16 * len(kept) + 8
    # Who has the old file open reads on.
    assert before.read(packed, rows[0]) is not None
    for opened in (before, after):
        opened.close()


def test_images_are_added_to_a_part_and_dropped_from_it(packed: Index, files: ShardFiles) -> None:
    rows = rows_of(packed, 0)
    images = {int(row): image(packed, row) for row in rows}
    files.delete(0)
    with pytest.raises(FileNotFoundError):
        files.open(0)
    assert not files.holds(0, rows[:1])

    files.add(0, {int(row): images[row] for row in rows[2:]})
    files.add(0, {int(row): images[row] for row in rows[:1]})
    assert files.part_rows(0).tolist() == [rows[0], *rows[2:]]
    files.keep_only(0, rows[:3])

    assert files.part_rows(0).tolist() == [rows[0], rows[2]]
    part = files.open(0)
    assert part.read(packed, rows[2]) == images[rows[2]]
    part.close()
    assert [path.name for path in files.whole(0).parent.iterdir() if path.name.endswith("partial")] == []


def test_nothing_is_left_of_a_deleted_shard(packed: Index, files: ShardFiles) -> None:
    files.keep_only(0, rows_of(packed, 0)[:1])

    files.delete(0)
    files.delete(0)

    assert files.stored_bytes(0) == 0
    assert not list(Path(packed.directory / "shards").glob("shard-000000*"))


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 40, bytes(7) + b"\x7f"])
def test_a_part_that_a_crash_damaged_is_none(packed: Index, files: ShardFiles, content: bytes) -> None:
    rows = rows_of(packed, 0)
    files.keep_only(0, rows[:2])
    files.part(0).write_bytes(content)

    assert len(files.part_rows(0)) == 0
    assert not files.holds(0, rows[:1])
    with pytest.raises(FileNotFoundError):
        files.open(0)
