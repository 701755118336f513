"""Storage, packing and the node's copy against a real S3 protocol over HTTP."""

import multiprocessing
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from octoscale.data.dataset import DataSet
from octoscale.data.decode import decode_image
from octoscale.data.pack import pack
from octoscale.data.storage import Store, forget_clients
from octoscale.data.storage_config import StorageConfig
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


def test_what_is_written_is_read_back_whole_and_in_part(s3_store: Store) -> None:
    s3_store.write("folder/name", b"0123456789")

    assert s3_store.read("folder/name") == b"0123456789"
    assert s3_store.read_range("folder/name", 2, 5) == b"234"
    assert s3_store.size("folder/name") == 10
    assert s3_store.exists("folder/name")
    assert s3_store.exists("folder")
    assert not s3_store.exists("folder/nam")


def test_an_exclusive_write_refuses_an_existing_object_and_leaves_it(s3_store: Store) -> None:
    s3_store.write("manifest", b"first", exclusive=True)

    with pytest.raises(FileExistsError):
        s3_store.write("manifest", b"second", exclusive=True)

    assert s3_store.read("manifest") == b"first"


def test_a_listing_sees_what_another_store_wrote_since(s3_store: Store) -> None:
    store = s3_store.child("runs/one")
    assert store.list() == []

    s3_store.write("runs/one/steps/2/x", b"")
    s3_store.write("runs/one/steps/10/x", b"")
    s3_store.write("runs/one-more/x", b"")

    assert store.list() == ["steps/10/x", "steps/2/x"]
    assert store.list("steps/2") == ["steps/2/x"]
    assert store.list("step") == []
    assert store.list("steps/2/x") == []


def test_deleting_a_folder_leaves_its_neighbours(s3_store: Store) -> None:
    for name in ("a/1", "a/b/2", "ab/3", "c"):
        s3_store.write(name, b"x")

    s3_store.delete("a")
    s3_store.delete("c")
    s3_store.delete("never there")

    assert s3_store.list() == ["ab/3"]


def test_a_large_file_goes_up_and_comes_back(s3_store: Store, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(12 * 2**20)
    (tmp_path / "up").write_bytes(content)

    s3_store.upload(tmp_path / "up", "big")
    s3_store.download("big", tmp_path / "down")

    assert zlib.crc32((tmp_path / "down").read_bytes()) == zlib.crc32(content)


def test_a_writable_bucket_passes_the_probe_and_stays_empty(s3_store: Store) -> None:
    s3_store.probe_writable()

    assert s3_store.list() == []


def test_a_missing_bucket_is_named_and_holds_nothing(s3_server: str, backend: str) -> None:
    store = Store("s3://no-such-bucket/run", StorageConfig.model_validate({"backend": backend}))

    with pytest.raises(OctoscaleError, match="s3://no-such-bucket"):
        store.probe_writable()
    assert store.list() == []
    assert not store.exists()


def test_a_missing_object_is_named(s3_store: Store) -> None:
    with pytest.raises(OctoscaleError, match=f"cannot read {s3_store.url}/absent: there is no such file"):
        s3_store.read("absent")


def test_a_store_works_in_a_spawned_process_after_use_in_this_one(s3_store: Store) -> None:
    s3_store.write("name", b"content")

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(s3_store.read, ("name",)) == b"content"


def test_a_data_set_packed_to_s3_is_read_from_the_nodes_copy(s3_url: str, source: Path, tmp_path: Path) -> None:
    report = pack(str(source), f"{s3_url}/faces")

    data = DataSet.open(f"{s3_url}/faces", tmp_path / "cache")
    data.keep_all()

    assert data.index.directory.name == data.index.fingerprint == report.fingerprint
    assert data.index.identity_keys == ["a", "b", "c"]
    images = data.reader.__getitems__(np.arange(9)).permute(0, 2, 3, 1).numpy()
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
        DataSet.open(f"{s3_url}/faces", tmp_path / "cache").keep_all()


def test_ranges_come_in_their_order_and_end_with_the_object(s3_store: Store) -> None:
    s3_store.write("name", b"0123456789")
    s3_store.write("empty", b"")

    assert s3_store.read_ranges("name", [(8, 20), (0, 2), (4, 4), (4, 5)]) == [b"89", b"01", b"", b"4"]
    assert s3_store.read_range("name", 20, 30) == b""
    assert s3_store.read("empty") == b""
    assert s3_store.read_range("empty", 0, 5) == b""


def test_a_large_object_is_fetched_in_parts(s3_url: str, backend: str, tmp_path: Path) -> None:
    config = StorageConfig.model_validate({"backend": backend, "part_bytes": 2**16, "connections": 3})
    store = Store(s3_url, config)
    content = np.random.default_rng(0).bytes(5 * 2**16 + 1)
    store.write("big", content)

    store.download("big", tmp_path / "unknown size")
    store.download("big", tmp_path / "known size", len(content))

    assert (tmp_path / "unknown size").read_bytes() == content
    assert (tmp_path / "known size").read_bytes() == content
    assert store.read("big") == content


@pytest.mark.parametrize("size_bytes", [0, 1, 10**6])
def test_an_unexpected_length_is_told_and_leaves_no_file(s3_store: Store, tmp_path: Path, size_bytes: int) -> None:
    s3_store.write("name", b"0123456789")

    with pytest.raises(OctoscaleError, match=f"it has 10 bytes, not the expected {size_bytes}"):
        s3_store.download("name", tmp_path / "down", size_bytes)

    assert not (tmp_path / "down").exists()


def test_the_endpoint_of_the_configuration_needs_no_environment(
    s3_store: Store, monkeypatch: pytest.MonkeyPatch, s3_server: str
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    forget_clients()
    store = Store(s3_store.url, s3_store.config.model_copy(update={"endpoint_url": s3_server}))

    store.write("name", b"content")

    assert store.read("name") == b"content"


def test_keys_of_a_profile_are_found(s3_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("[elsewhere]\naws_access_key_id = a\naws_secret_access_key = b\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "elsewhere")
    forget_clients()

    assert s3_store.list() == []


def test_an_unreachable_endpoint_is_a_clear_error(s3_server: str, backend: str) -> None:
    config = StorageConfig.model_validate(
        {"backend": backend, "endpoint_url": "http://127.0.0.1:9", "timeout_seconds": 0.5, "deadline_seconds": 0.5}
    )

    with pytest.raises(
        OctoscaleError, match=r"check the credentials, the network and endpoint_url, http://127\.0\.0\.1:9$"
    ):
        Store("s3://bucket", config).read("name")


def test_an_unreachable_endpoint_of_the_environment_is_named(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    forget_clients()
    limits = {"timeout_seconds": 0.5, "deadline_seconds": 0.5}

    with pytest.raises(OctoscaleError, match=r"check the credentials, the network and AWS_ENDPOINT_URL$"):
        Store(s3_store.url, s3_store.config.model_copy(update=limits)).read("name")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("AWS_ENDPOINT_URL", "127.0.0.1:9000", r"AWS_ENDPOINT_URL: '127.0.0.1:9000' is not the URL of a server"),
        ("AWS_ENDPOINT_URL_S3", "me:secret@host:9000", "AWS_ENDPOINT_URL_S3: what it holds is not the URL"),
        ("AWS_PROFILE", "elsewhere", "AWS_PROFILE: the profile 'elsewhere' is not in ~/.aws/config"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    s3_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv(name, value)
    forget_clients()

    with pytest.raises(OctoscaleError, match=told):
        s3_store.list()


def test_a_wrong_endpoint_of_the_aws_configuration_is_told(
    s3_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\nendpoint_url = 127.0.0.1:9000\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    forget_clients()

    with pytest.raises(OctoscaleError, match=r"endpoint_url .*in ~/.aws/config"):
        s3_store.list()
