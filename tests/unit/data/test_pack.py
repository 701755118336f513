"""Packing: the bytes, the order, the report, and what happens when it stops."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset

from octoscale.data.importers.folder import ImageFolder
from octoscale.data.index import Index
from octoscale.data.pack import Excluded, pack
from octoscale.errors import OctoscaleError
from tests.unit.data.conftest import MakeFolder, encode


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_webdataset_reads_the_original_bytes_and_the_identity(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"anna": 3, "bert": 2})
    (source / "bert" / "x.png").write_bytes(encode(9, suffix="png"))
    (source / "bert" / "y.webp").write_bytes(encode(10, suffix="webp"))

    pack(str(source), str(tmp_path / "packed"), shard_bytes=4096)

    shards = sorted(map(str, (tmp_path / "packed" / "shards").iterdir()))
    assert len(shards) > 1
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    found = {
        sample["__key__"]: (sample.get("jpg") or sample.get("png") or sample.get("webp"), int(sample["cls"]))
        for sample in samples
    }
    originals = [path.read_bytes() for path in sorted(source.glob("*/*"))]
    assert found == {f"{row:09d}": (data, int(row >= 3)) for row, data in enumerate(originals)}
    assert [set(s) & {"jpg", "png", "webp"} for s in sorted(samples, key=lambda s: s["__key__"])][5:] == [
        {"png"},
        {"webp"},
    ]


def test_the_index_points_at_the_original_bytes(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"anna": 5, "bert": 4})

    pack(str(source), str(tmp_path / "packed"), shard_bytes=4096)

    index = Index.load(tmp_path / "packed")
    shards = [(tmp_path / "packed" / shard.name).read_bytes() for shard in index.manifest.shards]
    ranges = zip(index.shard_ids, index.offsets, index.sizes, strict=True)
    found = [shards[shard][offset : offset + size] for shard, offset, size in ranges]
    assert found == [path.read_bytes() for path in sorted(source.glob("*/*"))]


def test_packing_twice_gives_identical_files(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"anna": 5, "bert": 4, "carl": 2})

    pack(str(source), str(tmp_path / "one"), shard_bytes=4096)
    pack(str(source), str(tmp_path / "two"), shard_bytes=4096)

    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_another_seed_gives_another_order_and_fingerprint(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({f"{number:02d}": 2 for number in range(20)})

    one = pack(str(source), str(tmp_path / "one"), seed=1)
    two = pack(str(source), str(tmp_path / "two"), seed=2)

    assert one.fingerprint != two.fingerprint
    assert np.array_equal(Index.load(tmp_path / "one").crc32, Index.load(tmp_path / "two").crc32)


def test_identities_are_cut_into_runs_of_eight_and_the_runs_spread(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"a": 27, "b": 3, "c": 16, "d": 9})

    pack(str(source), str(tmp_path / "packed"))

    with tarfile.open(tmp_path / "packed" / "shards" / "shard-000000.tar") as tar:
        rows = [int(name[:9]) for name in tar.getnames() if name.endswith(".jpg")]
    starts = [0, 8, 16, 27, 30, 38, 46]  # a: 8 + 8 + 11, b: 3, c: 8 + 8, d: 9
    runs = [list(range(start, end)) for start, end in zip(starts, [*starts[1:], 55], strict=True)]
    first_rows = [row for row in rows if row in starts]
    assert rows == [row for first in first_rows for row in runs[starts.index(first)]]
    assert first_rows != sorted(first_rows)


def test_shards_have_about_the_size_asked_for(make_folder: MakeFolder, tmp_path: Path) -> None:
    pack(str(make_folder(dict.fromkeys("abcdefgh", 8))), str(tmp_path / "packed"), shard_bytes=40_960)

    sizes = [shard.size_bytes for shard in Index.load(tmp_path / "packed").manifest.shards]

    # A shard of whole runs, and up to one record (10,240 bytes) and the end marker of tar.
    assert all(size <= 40_960 + 10_240 for size in sizes)
    assert len(sizes) > 1


def test_bad_images_and_poor_identities_are_excluded_and_reported(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"good": 3, "single": 1, "spoiled": 2})
    (source / "good" / "truncated.jpg").write_bytes(encode(50)[:-100])
    (source / "good" / "fake.png").write_bytes(b"<html>404</html>")
    (source / "good" / "large.jpg").write_bytes(encode(51, size=(32, 32)))
    (source / "good" / "notes.txt").write_bytes(b"")
    (source / "spoiled" / "000.jpg").write_bytes(encode(52, size=(16, 20)))

    report = pack(str(source), str(tmp_path / "packed"))

    causes = {excluded.name: excluded.cause for excluded in report.excluded_images}
    assert "damaged jpg" in causes.pop("good/truncated.jpg")
    assert "not a JPEG, PNG or WebP" in causes.pop("good/fake.png")
    assert causes.pop("good/large.jpg") == "32×32 pixels; this data set has 16×16"
    assert causes.pop("spoiled/000.jpg") == "16×20 pixels; images must be square"
    assert "not an image file" in causes.pop("good/notes.txt")
    assert not causes
    assert report.excluded_identities == (
        Excluded("single", "1 good of 1 images; an identity needs 2"),
        Excluded("spoiled", "1 good of 2 images; an identity needs 2"),
    )
    assert (report.images, report.identities, report.image_size) == (3, 1, 16)
    written = json.loads((tmp_path / "packed" / "report.json").read_bytes())
    assert [excluded["name"] for excluded in written["excluded_images"]] == [e.name for e in report.excluded_images]


def test_the_image_size_asked_for_decides(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"small": 2})
    for number in range(2):
        (source / "small" / f"z{number}.jpg").write_bytes(encode(number, size=(24, 24)))

    report = pack(str(source), str(tmp_path / "packed"), image_size=24)

    assert (report.images, report.image_size) == (2, 24)


def test_nothing_good_is_an_error_with_the_first_cause(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"a": 2, "b": 2})

    with pytest.raises(OctoscaleError, match=r"none of the 2 identities .* a/000.jpg: 16×16 pixels; .* 112×112"):
        pack(str(source), str(tmp_path / "packed"), image_size=112)

    assert files_of(tmp_path / "packed") == {}


def test_a_data_set_is_replaced_only_when_asked(make_folder: MakeFolder, tmp_path: Path) -> None:
    source, destination = make_folder({"a": 30}), tmp_path / "packed"
    pack(str(source), str(destination), shard_bytes=4096)
    for path in list((source / "a").iterdir())[4:]:
        path.unlink()

    with pytest.raises(OctoscaleError, match="already holds a packed data set"):
        pack(str(source), str(destination))
    report = pack(str(source), str(destination), overwrite=True)

    assert len(list((destination / "shards").iterdir())) == report.shards == 1
    assert len(Index.load(destination)) == 4


def test_what_a_killed_packing_left_is_not_mixed_with_a_new_one(make_folder: MakeFolder, tmp_path: Path) -> None:
    source, destination = make_folder({"a": 4}), tmp_path / "packed"
    pack(str(source), str(destination))
    (destination / "manifest.json").unlink()

    with pytest.raises(OctoscaleError, match="from an interrupted packing"):
        pack(str(source), str(destination))


def test_foreign_files_at_the_destination_survive_an_overwrite(make_folder: MakeFolder, tmp_path: Path) -> None:
    source, destination = make_folder({"a": 4}), tmp_path / "packed"
    pack(str(source), str(destination))
    (destination / "shards" / "mine.tar").write_bytes(b"mine")

    pack(str(source), str(destination), overwrite=True)

    assert (destination / "shards" / "mine.tar").read_bytes() == b"mine"


@pytest.mark.parametrize("stop_at", ["verify", "write"])
def test_an_interrupted_packing_removes_what_it_wrote(make_folder: MakeFolder, tmp_path: Path, stop_at: str) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == stop_at and done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(
            str(make_folder(dict.fromkeys("abcd", 8))),
            str(tmp_path / "packed"),
            shard_bytes=4096,
            progress=interrupt,
        )

    assert files_of(tmp_path / "packed") == {}


def test_an_image_that_changes_between_the_passes_is_an_error(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"a": 2})

    def change(stage: str, done: int, total: int) -> None:
        (source / "a" / "001.jpg").write_bytes(encode(77))

    with pytest.raises(OctoscaleError, match=r"a/001.jpg changed while it was packed"):
        pack(str(source), str(tmp_path / "packed"), progress=change)


@pytest.mark.parametrize("place", ["packed", "a", "."])
def test_a_destination_inside_the_source_is_refused(make_folder: MakeFolder, place: str) -> None:
    source = make_folder({"a": 2})

    with pytest.raises(OctoscaleError, match="is inside the source"):
        pack(str(source), str(source / place))


def test_progress_ends_at_the_number_of_images(make_folder: MakeFolder, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []

    pack(str(make_folder({"a": 3, "b": 2})), str(tmp_path / "packed"), progress=lambda *call: calls.append(call))

    assert calls == [("verify", 3, 5), ("verify", 5, 5), ("write", 5, 5)]


def test_no_more_than_one_identity_or_run_is_read_at_a_time(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested: list[int] = []
    read: Callable[..., list[bytes]] = ImageFolder.read

    def counting(self: ImageFolder, names: list[str]) -> list[bytes]:
        requested.append(len(names))
        return read(self, names)

    monkeypatch.setattr(ImageFolder, "read", counting)
    pack(str(make_folder({"a": 20, "b": 5, "c": 5})), str(tmp_path / "packed"))

    assert max(requested) == 20
    assert max(requested[3:]) == 8
