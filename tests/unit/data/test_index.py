"""The index: what it says, and that damage is noticed."""

import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from octoscale.data.index import Index, Manifest, file_sha256
from octoscale.data.pack import pack
from octoscale.errors import OctoscaleError
from tests.unit.data.conftest import MakeFolder


def test_identities_are_ranges_of_rows(make_folder: MakeFolder, tmp_path: Path) -> None:
    pack(str(make_folder({"b": 2, "ä ö": 5, "a": 3})), str(tmp_path / "packed"))

    index = Index.load(tmp_path / "packed")

    assert index.identity_keys == ["a", "b", "ä ö"]
    assert index.images_per_identity.tolist() == [3, 2, 5]
    assert index.identity_of(np.arange(10)).tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2, 2]
    assert index.identity_of(np.array([[9, 0], [3, 4]])).tolist() == [[2, 0], [1, 1]]
    assert (len(index), index.identity_count, index.image_size) == (10, 3, 16)
    assert index.shard_ids.dtype == index.sizes.dtype == np.int32
    assert index.offsets.dtype == index.identity_offsets.dtype == np.int64
    assert index.crc32.dtype == np.uint32


def test_the_arrays_are_mapped_and_a_pickle_carries_only_their_place(packed: Index) -> None:
    copy = pickle.loads(pickle.dumps(packed))

    assert isinstance(copy.offsets, np.memmap)
    assert np.array_equal(copy.offsets, packed.offsets)
    assert len(pickle.dumps(packed)) < 500


def test_a_folder_that_was_not_packed_says_how_to_pack(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=r"not a packed data set .* `octoscale pack"):
        Index.load(tmp_path)


@pytest.mark.parametrize("name", ["offsets.npy", "identity_keys.txt"])
def test_one_flipped_bit_in_the_index_is_noticed(packed: Index, name: str) -> None:
    path = packed.directory / "index" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    shutil.copy(path, path.with_suffix(".old"))
    path.unlink()  # A new file: the old one is still mapped.
    path.write_bytes(content)

    with pytest.raises(OctoscaleError, match=f"{name} is damaged"):
        Index.load(packed.directory)


def test_a_missing_array_is_named(packed: Index) -> None:
    (packed.directory / "index" / "crc32.npy").unlink()

    with pytest.raises(OctoscaleError, match=r"crc32.npy is missing"):
        Index.load(packed.directory)


def test_another_format_version_is_refused(packed: Index) -> None:
    path = packed.directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99, "new_field": 1}))

    with pytest.raises(OctoscaleError, match="has data set format 99, this octoscale reads 1"):
        Index.load(packed.directory)


def test_an_edited_manifest_is_refused(packed: Index) -> None:
    path = packed.directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"images": 23}))

    with pytest.raises(OctoscaleError, match="was changed after packing"):
        Index.load(packed.directory)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"schema_version": 1}', b"\xff", b"[" * 100_000])
def test_a_damaged_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(OctoscaleError, match=r"somewhere"):
        Manifest.parse(content, "somewhere")


@pytest.mark.parametrize(
    "name",
    [
        "shards/../../escape.tar", "../escape.tar", "/etc/escape.tar", "a//b.tar", "./a.tar", "a/./b.tar", "a\\b.tar",
        "a\nb.tar", "a\0.tar", "\u202eevil.tar", "manifest.json", "index/offsets.npy", "", "x" * 1024 + ".tar",
    ],
)  # fmt: skip
def test_a_shard_name_cannot_lead_out_of_the_folder_nor_to_other_files(packed: Index, name: str) -> None:
    fields = packed.manifest.model_dump(mode="json")
    fields["shards"][0]["name"] = name

    with pytest.raises(OctoscaleError, match="damaged"):
        Manifest.parse(json.dumps(fields).encode(), "somewhere")


@pytest.mark.parametrize("name", ["0.tar", "train/part one.tar", "ü/..a.tar", ".hidden.tar", "a..b/c.tar"])
def test_shards_of_others_keep_their_names(packed: Index, name: str) -> None:
    fields = packed.manifest.model_dump(exclude={"schema_version", "fingerprint"})
    fields["shards"] = [shard | {"name": name} for shard in fields["shards"]]
    manifest = Manifest.create(**fields)

    assert Manifest.parse(manifest.dump(), "somewhere").shards[0].name == name


def test_images_are_named_as_in_the_source_or_else_counted(packed: Index) -> None:
    assert packed.sample_name(5) == "b/001.jpg"

    names = {name: sha256 for name, sha256 in packed.manifest.index_sha256.items() if "names" not in name}
    older = Index(
        packed.directory, packed.manifest.model_copy(update={"index_sha256": names}), packed.shard_ids, packed.offsets,
        packed.sizes, packed.crc32, packed.identity_offsets,
    )  # fmt: skip
    assert older.sample_name(5) == "b #2"


@pytest.mark.parametrize(
    ("array", "cause"),
    [
        (np.array([{"a": 1}], object), "not a readable array"),
        (np.zeros(23, np.int64), r"holds int64 \[23\], not int64 \[24\]"),
        (np.zeros(24, np.float64), "holds float64"),
        (None, "not a readable array"),
    ],
    ids=["pickle", "short", "floats", "no array"],
)
def test_an_array_that_is_none_of_an_index_is_refused(packed: Index, array: np.ndarray | None, cause: str) -> None:
    path = packed.directory / "index/offsets.npy"
    path.unlink()
    if array is None:
        path.write_bytes(b"no array")
    else:
        np.save(path, array, allow_pickle=True)

    with pytest.raises(OctoscaleError, match=f"offsets.npy .*{cause}"):
        Index.load(packed.directory, verify=False)


def test_an_index_file_name_cannot_lead_out_of_the_folder(packed: Index) -> None:
    fields = packed.manifest.model_dump(mode="json")
    fields["index_sha256"]["index/../../escape.npy"] = "0" * 64

    with pytest.raises(OctoscaleError, match="damaged"):
        Manifest.parse(json.dumps(fields).encode(), "somewhere")


def rewritten(packed: Index, name: str, data: bytes) -> None:
    """Replace a file of the index, in the manifest too, as whoever wishes ill would."""
    (packed.directory / name).unlink()
    (packed.directory / name).write_bytes(data)
    fields = packed.manifest.model_dump(exclude={"schema_version", "fingerprint"})
    fields["index_sha256"][name] = file_sha256(packed.directory / name)
    (packed.directory / "manifest.json").write_bytes(Manifest.create(**fields).dump())


@pytest.mark.parametrize(
    ("field", "row", "value", "cause"),
    [
        ("shard_ids", 3, -1, r"image 3 is in shard -1 of \d"),
        ("shard_ids", 23, 99, "image 23 is in shard 99"),
        ("offsets", 0, -512, "image 0 is .* bytes from -512 on"),
        ("offsets", 5, 2**63 - 1, "image 5 is .* bytes from 9223372036854775807 on"),
        ("sizes", 7, 0, "image 7 is 0 bytes"),
        ("sizes", 7, 2**31 - 1, "image 7 is 2147483647 bytes .* in a shard of"),
        ("identity_offsets", 0, 1, "do not rise from 0 to 24"),
        ("identity_offsets", 2, 4, "do not rise"),
        ("identity_offsets", 6, 23, "do not rise"),
    ],
)
def test_values_that_cannot_be_true_are_refused(packed: Index, field: str, row: int, value: int, cause: str) -> None:
    array = np.array(getattr(packed, field))
    array[row] = value
    buffer = io.BytesIO()
    np.save(buffer, array)
    rewritten(packed, f"index/{field}.npy", buffer.getvalue())

    with pytest.raises(OctoscaleError, match=f"cannot be true: .*{cause}"):
        Index.load(packed.directory)


@pytest.mark.parametrize("name", ["identity_keys.txt", "sample_names.txt"])
def test_a_text_of_other_many_lines_is_refused(packed: Index, name: str) -> None:
    rewritten(packed, f"index/{name}", b"one\ntwo\n")

    with pytest.raises(OctoscaleError, match=f"cannot be true: {name} has 2 lines"):
        Index.load(packed.directory)
