"""Storage, packing and the node's copy against a real S3 protocol over HTTP."""

import multiprocessing
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from octoscale.data.cache import local_copy
from octoscale.data.decode import decode_image
from octoscale.data.index import Index
from octoscale.data.pack import pack
from octoscale.data.reader import ImageReader
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three identities of three 16 × 16 images."""
    rng = np.random.default_rng(0)
    for identity in "abc":
        folder = tmp_path / "source" / identity
        folder.mkdir(parents=True)
        for number in range(3):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{number}.jpg")
    return tmp_path / "source"


def test_what_is_written_is_read_back_whole_and_in_part(s3_url: str) -> None:
    store = Store(s3_url)

    store.write("folder/name", b"0123456789")

    assert store.read("folder/name") == b"0123456789"
    assert store.read_range("folder/name", 2, 5) == b"234"
    assert store.size("folder/name") == 10
    assert store.exists("folder/name")
    assert store.exists("folder")
    assert not store.exists("folder/nam")


def test_an_exclusive_write_refuses_an_existing_object_and_leaves_it(s3_url: str) -> None:
    store = Store(s3_url)
    store.write("manifest", b"first", exclusive=True)

    with pytest.raises(FileExistsError):
        store.write("manifest", b"second", exclusive=True)

    assert store.read("manifest") == b"first"


def test_a_listing_sees_what_another_store_wrote_since(s3_url: str) -> None:
    store = Store(s3_url).child("runs/one")
    assert store.list() == []

    Store(s3_url).write("runs/one/steps/2/x", b"")
    Store(s3_url).write("runs/one/steps/10/x", b"")
    Store(s3_url).write("runs/one-more/x", b"")

    assert store.list() == ["steps/10/x", "steps/2/x"]
    assert store.list("steps/2") == ["steps/2/x"]
    assert store.list("step") == []
    assert store.list("steps/2/x") == []


def test_deleting_a_folder_leaves_its_neighbours(s3_url: str) -> None:
    store = Store(s3_url)
    for name in ("a/1", "a/b/2", "ab/3", "c"):
        store.write(name, b"x")

    store.delete("a")
    store.delete("c")
    store.delete("never there")

    assert store.list() == ["ab/3"]


def test_a_large_file_goes_up_and_comes_back(s3_url: str, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(12 * 2**20)
    (tmp_path / "up").write_bytes(content)

    Store(s3_url).upload(tmp_path / "up", "big")
    Store(s3_url).download("big", tmp_path / "down")

    assert zlib.crc32((tmp_path / "down").read_bytes()) == zlib.crc32(content)


def test_a_writable_bucket_passes_the_probe_and_stays_empty(s3_url: str) -> None:
    Store(s3_url).probe_writable()

    assert Store(s3_url).list() == []


def test_a_missing_bucket_is_named(s3_server: str) -> None:
    with pytest.raises(OctoscaleError, match="s3://no-such-bucket"):
        Store("s3://no-such-bucket/run").probe_writable()


def test_a_missing_object_is_named(s3_url: str) -> None:
    with pytest.raises(OctoscaleError, match=f"cannot read {s3_url}/absent: there is no such file"):
        Store(s3_url).read("absent")


def test_a_store_works_in_a_spawned_process_after_use_in_this_one(s3_url: str) -> None:
    store = Store(s3_url)
    store.write("name", b"content")

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(store.read, ("name",)) == b"content"


def test_a_data_set_packed_to_s3_is_read_from_the_nodes_copy(s3_url: str, source: Path, tmp_path: Path) -> None:
    report = pack(str(source), f"{s3_url}/faces")

    directory = local_copy(f"{s3_url}/faces", tmp_path / "cache")

    index = Index.load(directory)
    assert directory.name == index.fingerprint == report.fingerprint
    assert index.identity_keys == ["a", "b", "c"]
    images = ImageReader(index, directory).__getitems__(np.arange(9)).permute(0, 2, 3, 1).numpy()
    expected = [decode_image(path.read_bytes()) for path in sorted(source.glob("*/*.jpg"))]
    assert np.array_equal(images, expected)


def test_an_image_folder_on_s3_packs_to_the_same_bytes_as_the_local_one(
    s3_url: str, source: Path, tmp_path: Path
) -> None:
    for path in source.glob("*/*"):
        Store(s3_url).upload(path, f"faces/{path.relative_to(source)}")

    remote = pack(f"{s3_url}/faces", str(tmp_path / "remote"))
    local = pack(str(source), str(tmp_path / "local"))

    assert remote.fingerprint == local.fingerprint


def test_packing_refuses_to_replace_a_data_set_on_s3(s3_url: str, source: Path) -> None:
    pack(str(source), f"{s3_url}/faces")

    with pytest.raises(OctoscaleError, match="already holds a packed data set"):
        pack(str(source), f"{s3_url}/faces")


def test_a_shard_damaged_on_s3_is_not_accepted_into_the_cache(s3_url: str, source: Path, tmp_path: Path) -> None:
    pack(str(source), f"{s3_url}/faces")
    store = Store(f"{s3_url}/faces")
    shard = bytearray(store.read("shards/shard-000000.tar"))
    shard[700] ^= 1
    store.write("shards/shard-000000.tar", bytes(shard))

    with pytest.raises(OctoscaleError, match=r"shard-000000.tar is damaged"):
        local_copy(f"{s3_url}/faces", tmp_path / "cache")


def test_an_unreachable_endpoint_is_a_clear_error(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(OctoscaleError, match="check the credentials, the network and AWS_ENDPOINT_URL"):
            Store("s3://bucket").read("name")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
