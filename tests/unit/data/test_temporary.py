"""Files that appear when they are whole."""

import multiprocessing
import time
from pathlib import Path

import pytest

from octoscale.data.temporary import replacing, sweep


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "name"

    with replacing(path) as temporary:
        temporary.write_bytes(b"content")
        assert not path.exists()

    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]


def test_nothing_is_left_of_a_failure_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "name"
    path.write_bytes(b"old")

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_half_is_swept_but_not_what_is_under_way(tmp_path: Path) -> None:
    left = tmp_path / "left.partial"
    left.write_bytes(b"half")
    under_way = tmp_path / "name.partial"
    holder = multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path / "name",))
    holder.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.02)

    sweep(tmp_path)

    assert not left.exists()
    assert under_way.exists()
    holder.kill()
    holder.join()
    sweep(tmp_path)
    assert not under_way.exists()


def _hold(path: Path) -> None:
    with replacing(path):
        path.with_name("held").write_bytes(b"")
        time.sleep(60)
