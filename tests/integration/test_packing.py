"""Packing that is killed, and packing from and to an object store."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octoscale.data.dataset import DataSet
from octoscale.data.importers.record_source import open_records
from octoscale.data.index_shards import index_shards
from octoscale.data.inspection.duplicates import find_duplicates
from octoscale.data.inspection.pictures import draw_contact_sheet
from octoscale.data.inspection.view import open_view
from octoscale.data.pack import pack
from octoscale.data.storage import Store
from tests.unit.data.conftest import encode
from tests.unit.data.importers.record_writer import payload, write_insightface, write_records

# Packs, and is killed after a method of its state was called so many times.
KILLED = """
import os, signal, sys
from octoscale.data.pack import pack, state

method, times, source, destination, workers = sys.argv[1:]
calls, original = [], getattr(state.PackState, method)

def counted(self, *arguments):
    original(self, *arguments)
    calls.append(method)
    if len(calls) == int(times):
        print(open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    state.PART_ENTRIES = 32
    setattr(state.PackState, method, counted)
    pack(source, destination, shard_bytes=20_000, workers=int(workers))
"""


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twenty identities of eight images, one of them damaged."""
    for person in range(20):
        (tmp_path / f"source/{person:02d}").mkdir(parents=True)
        for image in range(8):
            (tmp_path / f"source/{person:02d}/{image}.jpg").write_bytes(encode(8 * person + image))
    (tmp_path / "source/00/0.jpg").write_bytes(b"damaged")
    return tmp_path / "source"


@pytest.mark.parametrize(("method", "times", "workers"), [("add_verified", 2, 2), ("add_shard", 3, 1)])
def test_a_killed_packing_goes_on_and_gives_the_same(
    source: Path, tmp_path: Path, method: str, times: int, workers: int
) -> None:
    pack(str(source), str(tmp_path / "whole"), shard_bytes=20_000)
    (tmp_path / "killed.py").write_text(KILLED)
    packed = tmp_path / "packed"
    command = [sys.executable, tmp_path / "killed.py", method, times, source, packed, workers]

    killed = subprocess.run(list(map(str, command)), capture_output=True, text=True)

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    for child in killed.stdout.split():
        _wait_for_end(int(child))
    assert not (packed / "manifest.json").exists()
    # 160 images in parts of 32.
    assert len(list((packed / "packing").glob("verified-*"))) == (2 if method == "add_verified" else 5)
    before = {path: path.stat().st_mtime_ns for path in packed.glob("shards/*")}
    assert len(before) == (0 if method == "add_verified" else 3)
    stages: list[tuple[str, int]] = []
    pack(
        str(source), str(packed), shard_bytes=20_000, resume=True,
        progress=lambda stage, done, _: stages.append((stage, done)),
    )  # fmt: skip

    assert stages[0] == ("verify", 64 if method == "add_verified" else 160)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert files_of(packed) == files_of(tmp_path / "whole")


# Waits where a shard is written, or would.
TERMINATED = """
import sys, time
import octoscale.data.pack.shards as shards
from octoscale.cli import main

def wait(*_):
    print("writing", flush=True)
    time.sleep(200)

shards._check_offsets = wait
sys.argv = ["octoscale", "pack", *sys.argv[1:]]
main()
"""


def test_sigterm_ends_a_packing_like_ctrl_c_and_leaves_no_copies(source: Path, tmp_path: Path) -> None:
    (tmp_path / "terminated.py").write_text(TERMINATED)
    (tmp_path / "copies").mkdir()
    command = [sys.executable, tmp_path / "terminated.py", source, tmp_path / "packed"]
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"TMPDIR": str(tmp_path / "copies")},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    assert list((tmp_path / "copies").iterdir())

    process.terminate()
    _, told = process.communicate(timeout=120)

    assert "the same command with --resume goes on" in told
    assert process.returncode == 130
    assert list((tmp_path / "copies").iterdir()) == []


def _wait_for_end(process: int) -> None:
    """Until a process that nobody waits for is gone, or a zombie."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    raise AssertionError(f"the worker {process} outlived its parent")


# An object store, on both sides.


def upload(folder: Path, url: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            Store(url).upload(path, path.relative_to(folder).as_posix())


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all single reads of stores and of each range, as they happen."""
    found: list[str] = []
    read_ranges = Store.read_ranges

    def counted_ranges(self: Store, name: str, ranges: list[tuple[int, int]], **options: Any) -> list[bytes]:
        found.extend([name] * len(ranges))
        return read_ranges(self, name, ranges, **options)

    monkeypatch.setattr(Store, "read_ranges", counted_ranges)
    for method in ("read", "download"):
        original = getattr(Store, method)

        def counted(self: Store, name: str, *arguments: object, original: object = original) -> object:
            found.append(name)
            return original(self, name, *arguments)  # type: ignore[operator]

        monkeypatch.setattr(Store, method, counted)
    return found


def test_a_list_on_s3_is_packed_to_s3_by_two_processes(s3_url: str, source: Path, tmp_path: Path) -> None:
    lines = [f"{path.relative_to(source)} {path.parent.name}" for path in sorted(source.glob("*/*"))]
    (source / "list.txt").write_text("\n".join([*lines, "00/gone.jpg 00"]))
    upload(source, f"{s3_url}/faces")

    there = pack(f"{s3_url}/faces/list.txt", f"{s3_url}/packed", workers=2)

    here = pack(str(source / "list.txt"), str(tmp_path / "packed"))
    assert there == here
    assert [(item.name, item.cause) for item in there.excluded_images][1:] == [("00/gone.jpg", "there is no such file")]
    assert Store(f"{s3_url}/packed").list("packing") == []


def test_records_on_s3_are_read_in_large_pieces(s3_url: str, tmp_path: Path, requests: list[str]) -> None:
    people = [[encode(8 * person + image) for image in range(8)] for person in range(20)]
    write_insightface(tmp_path / "faces", people)
    upload(tmp_path / "faces", f"{s3_url}/faces")
    requests.clear()

    there = pack(f"{s3_url}/faces", f"{s3_url}/packed")

    # The header, the first pass at once, and at most one read per run of eight.
    assert 3 <= requests.count("train.rec") <= 2 + 20
    assert there == pack(str(tmp_path / "faces"), str(tmp_path / "packed"))


@pytest.mark.parametrize("index", [True, False])
def test_shuffled_records_on_s3_are_copied_once(s3_url: str, tmp_path: Path, requests: list[str], index: bool) -> None:
    images = [payload(float(number % 20), encode(number), number) for number in range(160)]
    write_records(tmp_path / "faces", images, index=index)
    upload(tmp_path / "faces", f"{s3_url}/faces")
    requests.clear()

    there = pack(f"{s3_url}/faces/train.rec", str(tmp_path / "there"))

    # Without an .idx the file is walked over once more.
    assert requests.count("train.rec") == (3 if index else 4)
    assert len(open_records(f"{s3_url}/faces/train.rec")) == there.images == 160
    assert files_of(tmp_path / "there").keys() == {
        "manifest.json", "report.json", "shards/shard-000000.tar", "index/identity_keys.txt", "index/sample_names.txt",
        *(f"index/{name}.npy" for name in ("shard_ids", "offsets", "sizes", "crc32", "identity_offsets")),
    }  # fmt: skip
    assert there == pack(str(tmp_path / "faces"), str(tmp_path / "here"))


def test_a_packing_to_s3_that_was_interrupted_is_resumed(s3_url: str, source: Path, tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "write" and done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(str(source), f"{s3_url}/packed", shard_bytes=40_000, progress=interrupt)
    store = Store(f"{s3_url}/packed")
    assert len(store.list("packing/shards")) > 1
    report = pack(str(source), f"{s3_url}/packed", shard_bytes=40_000, resume=True)

    assert report == pack(str(source), str(tmp_path / "packed"), shard_bytes=40_000)
    assert {name: store.read(name) for name in store.list()} == files_of(tmp_path / "packed")


def test_shards_on_s3_are_indexed_inspected_and_read(
    s3_url: str, source: Path, tmp_path: Path, requests: list[str]
) -> None:
    (source / "01/again.jpg").write_bytes((source / "02/3.jpg").read_bytes())
    pack(str(source), str(tmp_path / "packed"), shard_bytes=60_000)
    upload(tmp_path / "packed/shards", f"{s3_url}/others")
    requests.clear()

    index_shards(f"{s3_url}/others")

    shards = sorted(path.name for path in (tmp_path / "packed/shards").iterdir())
    assert sorted(requests) == shards
    requests.clear()
    with open_view(f"{s3_url}/others") as view:
        assert [len(group) for group in find_duplicates(view).across] == [2]
        assert draw_contact_sheet(view).startswith(b"\x89PNG")
    # Two candidates and twelve people of eight images, not the shards.
    assert len([name for name in requests if name in shards]) <= 2 + 12 * 8
    assert len(DataSet.open(f"{s3_url}/others", tmp_path / "cache").reader.__getitems__(np.arange(160))) == 160
