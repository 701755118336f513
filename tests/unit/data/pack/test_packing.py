"""Packing: the bytes, the order, the report, and what happens when it stops."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

import octoscale.data.pack.state
from octoscale.data.importers.open import open_source
from octoscale.data.importers.source import FileRequest
from octoscale.data.index import Index
from octoscale.data.pack import Excluded, Rules, pack
from octoscale.data.storage import Store
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
    mine = ["shards/mine.tar", "shards/shard-1.tar", "index/mine.npy", "index/notes.txt", "packing/list.txt"]
    for name in mine:
        (destination / name).parent.mkdir(exist_ok=True)
        (destination / name).write_bytes(b"mine")

    pack(str(source), str(destination), overwrite=True)

    assert [(destination / name).read_bytes() for name in mine] == [b"mine"] * len(mine)


def test_a_report_of_somebody_else_beside_a_split_survives(make_folder: MakeFolder, tmp_path: Path) -> None:
    source, destination = make_folder({f"{number:02d}": 2 for number in range(20)}), tmp_path / "packed"
    destination.mkdir()
    (destination / "report.json").write_bytes(b"mine")

    for overwrite in (False, True):
        pack(str(source), str(destination), rules=Rules(held_out=("x", 0.5)), overwrite=overwrite)

    assert (destination / "report.json").read_bytes() == b"mine"


@pytest.mark.parametrize("stop_at", ["verify", "write"])
def test_an_interrupted_packing_goes_on_when_asked_and_gives_the_same(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: str
) -> None:
    source = make_folder(dict.fromkeys("abcdefghijklmnop", 8))
    pack(str(source), str(tmp_path / "whole"), shard_bytes=4096)
    monkeypatch.setattr(octoscale.data.pack.state, "PART_ENTRIES", 32)

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == stop_at and done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(str(source), str(tmp_path / "packed"), shard_bytes=4096, progress=interrupt)
    assert not (tmp_path / "packed" / "manifest.json").exists()
    # What somebody deletes is written again.
    for path in list(tmp_path.glob("packed/shards/*"))[:1]:
        path.unlink()
    with pytest.raises(OctoscaleError, match=r"a part of one, .* \(--resume\)"):
        pack(str(source), str(tmp_path / "packed"), shard_bytes=4096)
    calls: list[tuple[str, int, int]] = []
    pack(
        str(source), str(tmp_path / "packed"), shard_bytes=4096, resume=True,
        progress=lambda *call: calls.append(call),
    )  # fmt: skip

    # The first call of a stage tells what was there.
    assert next(done for stage, done, _ in calls if stage == stop_at) >= 64
    assert files_of(tmp_path / "packed") == files_of(tmp_path / "whole")


def test_only_the_same_packing_is_resumed(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"a": 4, "b": 4})

    def interrupt(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(str(source), str(tmp_path / "packed"), progress=interrupt)
    with pytest.raises(OctoscaleError, match=r"another one: seed was 0, is 1; .*--overwrite"):
        pack(str(source), str(tmp_path / "packed"), seed=1, resume=True)
    (source / "a" / "new.jpg").write_bytes(encode(99))
    with pytest.raises(OctoscaleError, match="another one: source_fingerprint was"):
        pack(str(source), str(tmp_path / "packed"), resume=True)

    report = pack(str(source), str(tmp_path / "packed"), overwrite=True)
    assert report.images == 9
    assert not (tmp_path / "packed" / "packing").exists()


def test_an_overwriting_that_was_interrupted_is_resumed(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder(dict.fromkeys("abcd", 8))
    pack(str(source), str(tmp_path / "packed"), shard_bytes=4096, seed=5)
    pack(str(source), str(tmp_path / "whole"), shard_bytes=4096)

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "write":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(str(source), str(tmp_path / "packed"), shard_bytes=4096, overwrite=True, progress=interrupt)
    pack(str(source), str(tmp_path / "packed"), shard_bytes=4096, resume=True)

    assert files_of(tmp_path / "packed") == files_of(tmp_path / "whole")


def stop_at(stage: str) -> Callable[[str, int, int], None]:
    """A progress that interrupts the packing."""

    def interrupt(now: str, done: int, total: int) -> None:
        if now == stage:
            raise KeyboardInterrupt

    return interrupt


def test_resume_wins_over_overwrite(make_folder: MakeFolder, tmp_path: Path) -> None:
    source, destination = str(make_folder(dict.fromkeys("abcd", 8))), str(tmp_path / "packed")
    with pytest.raises(KeyboardInterrupt):
        pack(source, destination, overwrite=True, progress=stop_at("write"))

    with pytest.raises(OctoscaleError, match=r"seed was 0, is 1; .* --overwrite, without --resume"):
        pack(source, destination, overwrite=True, resume=True, seed=1)
    calls: list[tuple[str, int, int]] = []
    pack(source, destination, overwrite=True, resume=True, progress=lambda *call: calls.append(call))

    assert calls[0] == ("verify", 32, 32)
    assert [stage for stage, _, _ in calls] == ["verify", "write"]


@pytest.mark.parametrize("deletions", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("split", [None, ("validation", 0.5)])
def test_a_packing_killed_while_it_cleared_up_is_whole(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deletions: int,
    split: tuple[str, float] | None,
) -> None:  # fmt: skip
    source = str(make_folder({f"{number:02d}": 4 for number in range(20)} | {"single": 1}))
    rules = Rules(held_out=split)
    whole = pack(source, str(tmp_path / "whole"), rules=rules)
    monkeypatch.setattr(octoscale.data.pack.state, "PART_ENTRIES", 32)
    delete, left = Store.delete, [deletions]

    def killed(self: Store, name: str) -> None:
        if self.url.endswith("/packing") and list((tmp_path / "packed").rglob("manifest.json")):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
        delete(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            pack(source, str(tmp_path / "packed"), rules=rules)
    calls: list[tuple[str, int, int]] = []
    report = pack(source, str(tmp_path / "packed"), rules=rules, resume=True, progress=lambda *call: calls.append(call))

    assert calls == []
    assert report == whole
    assert files_of(tmp_path / "packed") == files_of(tmp_path / "whole")


def test_an_older_data_set_is_not_taken_for_the_interrupted_one(make_folder: MakeFolder, tmp_path: Path) -> None:
    source, destination = str(make_folder({"a": 4, "b": 4})), str(tmp_path / "packed")
    pack(source, destination, seed=5)
    with pytest.raises(KeyboardInterrupt):
        pack(source, destination, overwrite=True, progress=stop_at("verify"))

    pack(source, destination, resume=True)
    pack(source, str(tmp_path / "whole"))

    assert files_of(tmp_path / "packed") == files_of(tmp_path / "whole")


def test_an_older_split_is_replaced_only_when_asked(make_folder: MakeFolder, tmp_path: Path) -> None:
    source, destination = str(make_folder({f"{number:02d}": 2 for number in range(20)})), tmp_path / "packed"
    pack(source, str(destination), rules=Rules(held_out=("old", 0.5)))
    (destination / "extension").mkdir()
    (destination / "extension/manifest.json").write_text('{"name": "not a data set"}')

    for rules in (Rules(), Rules(held_out=("new", 0.5))):
        with pytest.raises(OctoscaleError, match=r"holds a packed data set \(old/manifest.json, train/manifest.json\)"):
            pack(source, str(destination), rules=rules)
    with pytest.raises(KeyboardInterrupt):
        pack(source, str(destination), overwrite=True, progress=stop_at("verify"))
    # Packed there since: nothing of the packing that is resumed.
    pack(source, str(destination / "other"))
    pack(source, str(destination), resume=True)

    left = files_of(destination).keys()
    assert {name.split("/")[0] for name in left if "manifest" in name} == {"manifest.json", "extension", "other"}
    assert not [name for name in left if name.startswith(("old/", "train/"))]


def test_a_split_is_not_packed_into_its_source(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"a": 2, "b": 2})
    source.rename(tmp_path / "train")

    with pytest.raises(OctoscaleError, match="train is inside the source"):
        pack(str(tmp_path / "train"), str(tmp_path), rules=Rules(held_out=("validation", 0.5)))


def test_a_pickle_among_the_state_of_a_packing_is_not_opened(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"a": 4})

    def interrupt(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(str(source), str(tmp_path / "packed"), progress=interrupt)
    (part,) = (tmp_path / "packed/packing").glob("verified-*")
    np.savez(part.open("wb"), labels=np.array([{"a": 1}], object))

    with pytest.raises(OctoscaleError, match=r"verified-.*npz is damaged .*--overwrite"):
        pack(str(source), str(tmp_path / "packed"), resume=True)


def test_two_processes_give_the_bytes_of_one(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder(dict.fromkeys("abcd", 20))
    (folder / "a" / "bad.jpg").write_bytes(b"no image")
    points = " 4 6 12 6 8 9 5 12 11 12"
    lines = [f"{path.relative_to(folder)} {path.parent.name}{points}" for path in sorted(folder.glob("*/*"))]
    (tmp_path / "faces.txt").write_text("\n".join(lines))
    source = open_source(str(tmp_path / "faces.txt"), root=str(folder))

    for workers in (1, 2):
        pack(
            source, str(tmp_path / f"packed{workers}"), shard_bytes=20_000, workers=workers,
            rules=Rules(aligned=True),
        )  # fmt: skip

    assert files_of(tmp_path / "packed1") == files_of(tmp_path / "packed2")
    index = Index.load(tmp_path / "packed1")
    assert (len(index), index.image_size) == (80, 112)


def test_a_split_makes_two_data_sets_by_identity(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({f"{number:03d}": 2 for number in range(40)} | {"single": 1})

    report = pack(str(source), str(tmp_path / "packed"), rules=Rules(held_out=("validation", 0.25)))

    train, validation = (Index.load(tmp_path / "packed" / part) for part in ("train", "validation"))
    assert sorted(train.identity_keys + validation.identity_keys) == [f"{number:03d}" for number in range(40)]
    assert 4 <= len(validation.identity_keys) <= 16
    assert report.held_out is not None
    assert (report.fingerprint, report.held_out.fingerprint) == (train.fingerprint, validation.fingerprint)
    assert [item.name for item in report.excluded_identities] == ["single"]
    assert not (tmp_path / "packed" / "manifest.json").exists()
    assert {path.name for path in (tmp_path / "packed").iterdir()} == {"train", "validation"}
    # A person's side depends on nobody else.
    for path in list(source.iterdir())[::2]:
        shutil.rmtree(path)
    pack(str(source), str(tmp_path / "fewer"), rules=Rules(held_out=("validation", 0.25)))
    fewer = Index.load(tmp_path / "fewer/validation").identity_keys
    assert fewer == [key for key in validation.identity_keys if (source / key).exists()]


def test_the_index_knows_the_name_of_every_image_in_the_source(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"b": 2, "ä ö": 3})

    pack(str(source), str(tmp_path / "packed"))

    index = Index.load(tmp_path / "packed")
    assert [index.sample_name(row) for row in range(5)] == [
        "b/000.jpg", "b/001.jpg", "ä ö/000.jpg", "ä ö/001.jpg", "ä ö/002.jpg",
    ]  # fmt: skip


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

    pack(str(make_folder({"a": 30, "b": 5})), str(tmp_path / "packed"), progress=lambda *call: calls.append(call))

    assert calls == [("verify", 32, 35), ("verify", 35, 35), ("write", 35, 35)]


def test_few_images_are_read_at_a_time(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested: list[int] = []
    load: Callable[..., Any] = FileRequest.load

    def counting(self: FileRequest) -> Any:
        requested.append(len(self.names))
        return load(self)

    monkeypatch.setattr(FileRequest, "load", counting)
    pack(str(make_folder({"a": 70, "b": 5, "c": 5})), str(tmp_path / "packed"))

    assert sum(requested) == 160
    assert max(requested) == 32


def test_a_huge_file_is_excluded_without_being_read(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_folder({"a": 2})
    with (source / "a/huge.jpg").open("wb") as file:
        file.truncate(64 * 2**20 + 1)
    read = Store.read
    names: list[str] = []

    def reading(self: Store, name: str) -> bytes:
        names.append(name)
        return read(self, name)

    monkeypatch.setattr(Store, "read", reading)
    report = pack(str(source), str(tmp_path / "packed"))

    assert report.excluded_images == (Excluded("a/huge.jpg", "the file has more than 64 MiB"),)
    assert "a/000.jpg" in names
    assert "a/huge.jpg" not in names
