"""RecordIO as a source: which records are images, and whose."""

import math
from pathlib import Path

import numpy as np
import pytest

from octoscale.data.importers.open import open_source
from octoscale.data.importers.record_source import RecordSource, open_records
from octoscale.data.importers.source import Loaded
from octoscale.data.index import Index
from octoscale.data.pack import Rules, pack
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError
from tests.unit.data.conftest import encode
from tests.unit.data.importers.record_writer import MAGIC, payload, write_insightface, write_records


def load_all(source: RecordSource) -> list[Loaded | None]:
    return [loaded for batch in source.batches(0) for loaded in source.request(batch).load()]


def images_of(source: RecordSource) -> list[tuple[int, bytes]]:
    return [(loaded.label, loaded.data) for loaded in load_all(source) if loaded is not None]


@pytest.mark.parametrize("index", [True, False], ids=["with idx", "without idx"])
def test_the_images_of_insightface_are_packed_under_their_labels(tmp_path: Path, index: bool) -> None:
    people = [[encode(10 * person + image) for image in range(3)] for person in range(12)]
    write_insightface(tmp_path / "faces", people, index=index)
    (tmp_path / "faces/property").write_text("12,16,16")

    report = pack(str(tmp_path / "faces"), str(tmp_path / "packed"), shard_bytes=9000)

    packed = Index.load(tmp_path / "packed")
    assert (report.images, report.excluded_images, report.excluded_identities) == (36, (), ())
    # Numbers sort as numbers.
    assert packed.identity_keys == [str(number) for number in range(12)]
    assert packed.sample_name(4) == "record 5"
    shards = [(tmp_path / "packed" / shard.name).read_bytes() for shard in packed.manifest.shards]
    ranges = zip(packed.shard_ids, packed.offsets, packed.sizes, strict=True)
    assert [shards[shard][offset : offset + size] for shard, offset, size in ranges] == [
        image for some in people for image in some
    ]


def test_a_file_of_im2rec_has_no_header_and_any_order(tmp_path: Path) -> None:
    contents = [payload(float(label), b"image %d" % label, 7) for label in (3, 0, 3, 1)]

    source = open_records(str(write_records(tmp_path, contents)))

    assert images_of(source) == [(3, b"image 3"), (0, b"image 0"), (3, b"image 3"), (1, b"image 1")]


def test_labels_may_be_arrays_and_eleven_numbers_are_landmarks(tmp_path: Path) -> None:
    points = [float(number) for number in range(10)]
    contents = [payload([5.0, 0.25], b"a"), payload([6.0, *points], b"b"), payload(7, b"c")]

    found = load_all(open_records(str(write_records(tmp_path, contents))))

    assert [(item.label, item.landmarks is not None) for item in found if item] == [(5, False), (6, True), (7, False)]
    assert found[1] is not None
    assert found[1].landmarks is not None
    assert found[1].landmarks.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_an_image_that_holds_the_magic_number_is_whole(tmp_path: Path) -> None:
    # 24 bytes of header: the numbers are aligned.
    image = b"abcd" + MAGIC + b"efgh" + MAGIC + MAGIC + b"i"

    source = open_records(str(write_records(tmp_path, [payload(0, image), payload(1, b"next")], index=False)))

    assert images_of(source) == [(0, image), (1, b"next")]


def test_records_without_an_image_are_told_apart_by_the_header(tmp_path: Path) -> None:
    # A damaged image among three, an identity record among the images' numbers is none of them.
    contents = [payload([4.0, 5.0]), payload(0, b"a"), payload(0, b""), payload(1, b"c"), payload([1.0, 4.0])]

    found = load_all(open_records(str(write_records(tmp_path, contents))))

    assert [(item.label, item.data, item.cause) for item in found if item] == [
        (0, b"a", ""), (0, b"", "the record holds no image"), (1, b"c", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("labels", [3.0, [3.0, *range(10)]])
def test_a_first_image_without_bytes_is_a_damaged_one_and_no_header(
    tmp_path: Path, labels: float | list[float]
) -> None:
    contents = [payload(labels), *(payload(number % 2, encode(number)) for number in range(6)), payload(0)]
    write_records(tmp_path / "faces", contents)

    report = pack(str(tmp_path / "faces"), str(tmp_path / "packed"))

    assert report.images == 6
    causes = {item.name: item.cause for item in report.excluded_images}
    assert causes == dict.fromkeys(["record 0", "record 7"], "the record holds no image")


def test_beyond_two_to_the_24_the_header_is_inexact_and_the_records_decide(tmp_path: Path) -> None:
    # float32 keeps every second number there: 16,777,219 images end at record 16,777,220, said as such or one off.
    end = 2**24 + 3
    first = end - 4
    contents = [
        payload([float(np.float32(end)), float(np.float32(end + 2))]),
        *[payload(0, b"image %d" % key) for key in range(first, end)],
        *[payload([1.0, 2.0])] * 2,
    ]
    path = write_records(tmp_path, contents)
    lines = path.with_suffix(".idx").read_text().splitlines()
    keys = [0, *range(first, end + 2)]
    path.with_suffix(".idx").write_text(
        "".join(f"{key}\t{line.split()[1]}\n" for key, line in zip(keys, lines, strict=True))
    )

    source = open_records(str(path))

    assert images_of(source) == [(0, b"image %d" % key) for key in range(first, end)]


@pytest.mark.parametrize("label", [-1.0, 0.5, math.nan, math.inf, 2.0**24])
def test_a_label_that_is_no_exact_number_is_refused(tmp_path: Path, label: float) -> None:
    path = write_records(tmp_path, [payload(0, b"x"), payload(label, b"x")])

    with pytest.raises(OctoscaleError, match=r"record 1 at byte 36 .* the label .* is not an identity's number"):
        load_all(open_records(str(path)))


@pytest.mark.parametrize("end", [math.nan, math.inf, 0.0, -3.0])
def test_a_header_without_sense_is_refused(tmp_path: Path, end: float) -> None:
    with pytest.raises(OctoscaleError, match="the file is damaged"):
        open_records(str(write_records(tmp_path, [payload([end, 9.0]), payload(0, b"x")])))


def test_a_truncated_file_is_refused_with_and_without_its_index(tmp_path: Path) -> None:
    path = write_records(tmp_path, [payload(0, bytes(100)), payload(0, bytes(100))])
    path.write_bytes(path.read_bytes()[:-50])

    with pytest.raises(OctoscaleError, match=r"byte 132 .* truncated"):
        load_all(open_records(str(path)))
    path.with_suffix(".idx").unlink()
    with pytest.raises(OctoscaleError, match=r"byte 132 .* truncated"):
        open_records(str(path))


def test_an_index_of_another_file_is_noticed(tmp_path: Path) -> None:
    path = write_records(tmp_path, [payload(0, b"aaaa"), payload(0, b"bbbb")])
    path.with_suffix(".idx").write_text("0\t0\n1\t12\n")

    with pytest.raises(OctoscaleError, match=r"record 0 at byte 0 .* or its .idx is another one"):
        load_all(open_records(str(path)))


def test_neighbours_are_read_together_and_a_shuffled_remote_file_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_records(tmp_path, [payload(number % 10, bytes(50), number) for number in range(100)])
    reads: list[tuple[int, int]] = []
    read_ranges = Store.read_ranges

    def counting(self: Store, name: str, ranges: list[tuple[int, int]]) -> list[bytes]:
        reads.extend(ranges)
        return read_ranges(self, name, ranges)

    source = open_records(str(path))
    monkeypatch.setattr(Store, "read_ranges", counting)
    load_all(source)
    assert len(reads) == 1

    monkeypatch.setattr(Store, "is_local", property(lambda self: "copy" in self.url))
    monkeypatch.setattr(Store, "read_ranges", read_ranges)
    monkeypatch.setattr(Store, "size", lambda self, name: path.stat().st_size)
    monkeypatch.setattr(Store, "download", lambda self, name, to: to.write_bytes(path.read_bytes()))
    (tmp_path / "copy").mkdir()
    every, of_eight = np.arange(100), np.arange(0, 100, 8)
    assert source.near(every, of_eight, tmp_path / "copy") is source
    # Runs of two are two images per read, however well the file is sorted.
    assert source.near(every, np.arange(0, 100, 2), tmp_path / "copy") is not source
    copied = source.near(np.argsort(every % 10, kind="stable"), of_eight, tmp_path / "copy")
    assert len(images_of(copied)) == 100  # type: ignore[arg-type]
    assert (tmp_path / "copy/images.rec").stat().st_size == path.stat().st_size


def test_a_shuffled_index_is_read_in_the_files_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_records(tmp_path, [payload(number % 3, b"image %d" % number) for number in range(50)])
    offsets = [line.split()[1] for line in path.with_suffix(".idx").read_text().splitlines()]
    keys = np.random.default_rng(0).permutation(50).tolist()
    lines = [f"{key}\t{offset}\n" for key, offset in sorted(zip(keys, offsets, strict=True))]
    path.with_suffix(".idx").write_text("".join(lines))
    source = open_records(str(path))
    calls: list[int] = []
    read_ranges = Store.read_ranges

    def counting(self: Store, name: str, ranges: list[tuple[int, int]]) -> list[bytes]:
        calls.append(len(ranges))
        return read_ranges(self, name, ranges)

    monkeypatch.setattr(Store, "read_ranges", counting)

    assert images_of(source) == [(number % 3, b"image %d" % number) for number in range(50)]
    assert calls == [1]
    assert [source.name(entry) for entry in range(50)] == [f"record {key}" for key in keys]
    calls.clear()
    source.request(np.array([7, 3, 30, 31])).load()
    # One call, whose ranges the store fetches together.
    assert calls == [3]


def test_a_folder_of_several_files_is_asked_about(tmp_path: Path) -> None:
    write_records(tmp_path, [payload(0, b"x")])
    write_records(tmp_path, [payload(0, b"x")], name="val")

    with pytest.raises(OctoscaleError, match=r"holds 2 .rec files; name the one"):
        open_source(str(tmp_path))


def test_landmarks_of_records_are_aligned_by_and_missing_ones_are_told(tmp_path: Path) -> None:
    points = [4.0, 6.0, 12.0, 6.0, 8.0, 9.0, 5.0, 12.0, 11.0, 12.0]
    contents = [payload([0.0, *points], encode(number)) for number in range(3)] + [payload(0, encode(9))]
    write_records(tmp_path / "faces", contents)

    report = pack(str(tmp_path / "faces"), str(tmp_path / "packed"), rules=Rules(aligned=True))

    assert (report.images, report.image_size) == (3, 112)
    assert [(item.name, item.cause) for item in report.excluded_images] == [("record 3", "no landmarks to align it by")]
