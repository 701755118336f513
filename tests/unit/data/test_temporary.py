"""Files that appear when they are whole."""

import multiprocessing
import time
from pathlib import Path

import pytest

from octoscale.data.temporary import replacing, sweep, written_whole
from octoscale.errors import OctoscaleError


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


def test_a_file_for_a_user_is_written_whole_or_the_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_bytes(b"old")

    def write_on_a_full_disk() -> None:
        with written_whole(path) as file:
            file.write(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OctoscaleError, match=r"cannot write .*scores\.json: No space left on device; choose another"):
        write_on_a_full_disk()
    assert path.read_bytes() == b"old"

    with written_whole(path) as file:
        file.write(b"new")

    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def write(path: Path) -> None:
    with written_whole(path) as file:
        file.write(b"scores")


def test_devices_are_written_to_and_folders_are_refused(tmp_path: Path) -> None:
    write(Path("/dev/null"))
    assert Path("/dev/null").is_char_device()

    with pytest.raises(OctoscaleError, match="cannot write /dev/full: No space left"):
        write(Path("/dev/full"))
    with pytest.raises(OctoscaleError, match=r"cannot write .*: Is a directory"):
        write(tmp_path)
