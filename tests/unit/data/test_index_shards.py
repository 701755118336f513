"""Shards of others: what is a sample, what is refused, and that the rest reads them like packed ones."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octoscale.data.decode import decode_image
from octoscale.data.importers.tar import TarReader
from octoscale.data.index import Index
from octoscale.data.index_shards import index_shards
from octoscale.data.reader import ImageReader
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError
from tests.unit.data.conftest import encode


def tar_of(members: Iterable[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def write(path: Path, members: Iterable[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_of(members, form))
    return path.read_bytes()


def sample(key: str, label: str, seed: int, suffix: str = "jpg") -> list[tuple[str, bytes]]:
    return [(f"{key}.{suffix}", encode(seed, suffix=suffix.replace("jpg", "jpeg"))), (f"{key}.cls", label.encode())]


def test_training_reads_indexed_shards_like_packed_ones(tmp_path: Path) -> None:
    # Identities in no order and over both shards, all formats of images, folders and long names in a tar.
    long = "people/" + "x" * 150
    first = [*sample("a", "10", 0), *sample("b", "9", 1, "png"), *sample(long, "10", 2, "webp"), *sample("c", "2", 3)]
    second = [*sample("a", "9", 4), *sample("z", "2", 5), ("z.txt", b"more of the sample")]
    before = [
        write(tmp_path / "set/part one.tar", first, tarfile.GNU_FORMAT), write(tmp_path / "set/ü/2.tar", second)
    ]  # fmt: skip

    report = index_shards(str(tmp_path / "set"))

    index = Index.load(tmp_path / "set")
    assert [shard.name for shard in index.manifest.shards] == ["part one.tar", "ü/2.tar"]
    assert [(tmp_path / "set" / shard.name).read_bytes() for shard in index.manifest.shards] == before
    assert index.identity_keys == ["2", "9", "10"]
    assert (report.images, report.identities, report.excluded_images) == (6, 3, ())
    seeds = [3, 5, 1, 4, 0, 2]
    assert [index.sample_name(row) for row in (0, 1, 5)] == [
        "part one.tar/c.jpg", "ü/2.tar/z.jpg", f"part one.tar/{long}.webp",
    ]  # fmt: skip
    suffix = {1: "png", 2: "webp"}
    expected = [decode_image(encode(seed, suffix=suffix.get(seed, "jpeg"))) for seed in seeds]
    images = ImageReader(index, index.directory).__getitems__(np.arange(6)).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(images, expected)


def test_a_field_of_the_json_can_be_the_identity(tmp_path: Path) -> None:
    people = [{"who": "Ann Lee", "id": 7}, {"who": "Ann Lee", "id": 7}, {"who": ["x"], "id": True}, {"id": None}]
    members = [
        pair for n, person in enumerate(people)
        for pair in ((f"{n}.jpg", encode(n)), (f"{n}.json", json.dumps(person).encode()))
    ]  # fmt: skip
    write(tmp_path / "0.tar", [*members, ("5.jpg", encode(5)), ("5.json", b"[" * 100_000)])

    report = index_shards(str(tmp_path), label_field="who")
    assert Index.load(tmp_path).identity_keys == ["Ann Lee"]
    assert [item.name for item in report.excluded_images] == ["0.tar/2", "0.tar/3", "0.tar/5"]
    index_shards(str(tmp_path), label_field="id", overwrite=True)
    assert Index.load(tmp_path).identity_keys == ["7"]
    with pytest.raises(OctoscaleError, match=r"no .cls, .* --label-field"):
        index_shards(str(tmp_path), overwrite=True)


def test_what_is_no_sample_is_reported(tmp_path: Path) -> None:
    members = [
        *sample("a", "x", 0), *sample("b", "x", 1),
        ("c.jpg", encode(2)[:-90]), ("c.cls", b"x"),
        ("d.jpg", encode(3, size=(20, 20))), ("d.cls", b"x"),
        ("e.cls", b"x"),
        ("f.jpg", encode(4)),
        ("g.jpg", encode(5)), ("g.png", encode(5, suffix="png")), ("g.cls", b"x"),
        ("h.jpg", encode(6)), ("h.jpg", encode(6)), ("h.cls", b"x"),
        ("i.jpg", encode(7)), ("i.cls", b"two\nlines"),
        ("README", b""),
        *sample("k", "lonely", 8),
    ]  # fmt: skip
    write(tmp_path / "0.tar", members)

    report = index_shards(str(tmp_path))

    causes = {item.name.removeprefix("0.tar/"): item.cause for item in report.excluded_images}
    assert "damaged jpg" in causes.pop("c.jpg")
    assert causes.pop("d.jpg") == "20×20 pixels; this data set has 16×16"
    assert "no image" in causes.pop("e")
    assert "no .cls" in causes.pop("f")
    assert "more than one image" in causes.pop("g")
    assert "twice" in causes.pop("h")
    assert "not one line" in causes.pop("i")
    assert "not KEY.SUFFIX" in causes.pop("README")
    assert not causes
    assert [item.name for item in report.excluded_identities] == ["lonely"]
    assert json.loads((tmp_path / "report.json").read_text())["images"] == report.images == 2


def test_the_index_is_the_same_for_two_processes(tmp_path: Path) -> None:
    for shard in range(3):
        write(tmp_path / f"{shard}.tar", [pair for n in range(4) for pair in sample(f"{n}", f"{n}", 4 * shard + n)])
    names = ("manifest.json", "report.json", "index/offsets.npy", "index/sample_names.txt")

    index_shards(str(tmp_path))
    one = [(tmp_path / name).read_bytes() for name in names]
    index_shards(str(tmp_path), workers=2, overwrite=True)

    assert [(tmp_path / name).read_bytes() for name in names] == one


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/x.jpg", "a/../../x.jpg", "a\\x.jpg", "a\nb.jpg"])
def test_a_member_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "0.tar", [(name, encode(0)), *sample("a", "x", 0), *sample("b", "x", 1)])

    with pytest.raises(OctoscaleError, match=r"0.tar holds a member named .* do not trust"):
        index_shards(str(tmp_path))
    assert not (tmp_path / "manifest.json").exists()


def header(name: str, kind: bytes, size: bytes) -> bytes:
    """A tar header with any bytes as its size."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    block[124:136], block[156:157], block[148:156] = size.ljust(12, b"\0"), kind, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


# Of a file, and of the headers that hold long names. In base 256: −1, −4096, and more than there is.
@pytest.mark.parametrize("size", [b"\xff" * 12, b"\xff" * 10 + b"\xf0\0", b"\x80" + b"\xff" * 11])
@pytest.mark.parametrize("kind", [b"0", b"x", b"L", b"g"])
def test_sizes_that_lead_back_or_far_away_are_refused(tmp_path: Path, kind: bytes, size: bytes) -> None:
    good = tar_of([*sample("a", "x", 0), *sample("b", "x", 1)])
    (tmp_path / "0.tar").write_bytes(good[:-10240] + header("c.jpg", kind, size) + good)

    # A header of −1 bytes holds none, and does no harm.
    harmless = kind != b"0" and size == b"\xff" * 12
    with (
        suppress(OctoscaleError) if harmless else pytest.raises(OctoscaleError, match=r"0.tar is (damaged|not a whole)")
    ):
        index_shards(str(tmp_path))


def test_a_long_chain_of_headers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(header("c.jpg", b"L", b"0") * 5000 + tar_of(sample("a", "x", 0)))

    with pytest.raises(OctoscaleError, match=r"0.tar"):
        index_shards(str(tmp_path))


def test_links_are_no_images(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for name, data in [("a.cls", b"x"), *sample("b", "x", 0), *sample("c", "x", 1)]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (tmp_path / "0.tar").write_bytes(buffer.getvalue())

    report = index_shards(str(tmp_path))

    assert [(item.name, "not a plain file" in item.cause) for item in report.excluded_images] == [("0.tar/a", True)]


def test_compressed_shards_are_refused(tmp_path: Path) -> None:
    data = tar_of(sample("a", "x", 0))
    (tmp_path / "a.tar").write_bytes(gzip.compress(data))
    with pytest.raises(OctoscaleError, match=r"a.tar is compressed \(gzip\)"):
        index_shards(str(tmp_path))

    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(data))
    with pytest.raises(OctoscaleError, match=r"holds 1 compressed shards, such as b.tar.gz"):
        index_shards(str(tmp_path))


def test_a_folder_without_shards_is_told(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match="holds no WebDataset shards"):
        index_shards(str(tmp_path))


@pytest.mark.parametrize("damage", ["header", "end", "no tar"])
def test_a_damaged_shard_is_refused(tmp_path: Path, damage: str) -> None:
    data = bytearray(tar_of([pair for n in range(9) for pair in sample(f"{n}", "x", n)]))
    if damage == "header":
        # The second image's header; tarfile takes it for the end.
        with tarfile.open(fileobj=io.BytesIO(bytes(data))) as tar:
            data[tar.getmembers()[2].offset + 3] ^= 0xFF
    (tmp_path / "0.tar").write_bytes({"header": data, "end": data[:2500], "no tar": b"x" * 2000}[damage])

    with pytest.raises(OctoscaleError, match=r"0.tar (is not a whole tar|is damaged|ends in the middle)"):
        index_shards(str(tmp_path))


def test_every_block_of_a_shard_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octoscale.data.importers.tar._BLOCK_BYTES", 1024)
    data = write(tmp_path / "0.tar", [pair for n in range(9) for pair in sample(f"{n}", "x", n)])
    reads: list[tuple[int, int]] = []
    read_range = Store.read_range

    def counting(self: Store, name: str, start: int, end: int) -> bytes:
        reads.append((start, end))
        return read_range(self, name, start, end)

    monkeypatch.setattr(Store, "read_range", counting)
    index_shards(str(tmp_path))

    assert reads == [(start, min(start + 1024, len(data))) for start in range(0, len(data), 1024)]


@given(st.binary(max_size=600), st.integers(0, 3000), st.binary(min_size=1, max_size=40))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, place: int, patch: bytes
) -> None:
    data = bytearray(tar_of([("a.cls", noise), *sample("b", "x", 0)]))
    data[place : place + len(patch)] = patch
    path = tmp_path_factory.getbasetemp() / "any.tar"
    path.write_bytes(data)
    with suppress(OctoscaleError):
        for member in TarReader(Store(str(path.parent)), "any.tar").members():
            assert member.data is None or data[member.offset : member.offset + len(member.data)] == member.data


@pytest.mark.parametrize("own", ["report.json", "index/offsets.npy", "index/sample_names.txt"])
def test_nothing_is_deleted_or_replaced_unless_asked(tmp_path: Path, own: str) -> None:
    write(tmp_path / "0.tar", [*sample("a", "1", 0), *sample("b", "1", 1)])
    foreign = ["index/mine.npy", "index/notes.txt"]
    for name in (*foreign, own):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")

    with pytest.raises(OctoscaleError, match=rf"already has an index \({own}\); .* --overwrite"):
        index_shards(str(tmp_path))
    assert (tmp_path / own).read_bytes() == b"mine"
    index_shards(str(tmp_path), overwrite=True)

    assert [(tmp_path / name).read_bytes() for name in foreign] == [b"mine"] * 2


def test_an_index_stays_when_the_scan_for_another_fails(tmp_path: Path) -> None:
    write(tmp_path / "0.tar", [*sample("a", "1", 0), *sample("b", "1", 1)])
    index_shards(str(tmp_path))
    write(tmp_path / "1.tar", [])
    (tmp_path / "1.tar").write_bytes(b"damaged" * 1000)

    with pytest.raises(OctoscaleError):
        index_shards(str(tmp_path), overwrite=True)

    assert len(Index.load(tmp_path)) == 2
