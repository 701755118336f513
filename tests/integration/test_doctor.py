"""`octoscale doctor` on a real S3 protocol over HTTP."""

from pathlib import Path
from typing import Any

import pytest

from octoscale.config import Config, parse_config
from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig
from octoscale.doctor import network
from octoscale.doctor.check import Check
from octoscale.doctor.examination import examine
from octoscale.doctor.places import writable
from tests.conftest import SmallRun


@pytest.fixture
def examined(small_run: SmallRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setattr(network, "collectives", lambda: iter(()))

    def run(directory: str, **changes: Any) -> dict[str, Check]:
        values = small_run(directory, **changes)
        config: Config = parse_config(values, source="of the test")
        return {check.name: check for check in examine(config)}

    return run


def test_a_run_on_s3_is_well_and_nothing_is_left_behind(
    s3_url: str, examined: Any, packed_faces: Path, tmp_path: Path
) -> None:
    data = Store(f"{s3_url}/faces")
    for path in packed_faces.rglob("*"):
        if path.is_file():
            data.upload(path, path.relative_to(packed_faces).as_posix())
    before = Store(s3_url).list()

    checks = examined(f"{s3_url}/run", data={"url": f"{s3_url}/faces", "cache_dir": str(tmp_path / "cache")})

    assert [check for check in checks.values() if check.status == "failed"] == []
    assert checks["directory"].found.startswith(f"{s3_url}/run: write, read, delete in ")
    assert checks["data.url"].found.startswith(f"{s3_url}/faces: 96 images, ")
    assert checks["clock"].status == "ok"
    assert "of the data set" in checks["cache disk"].found
    assert Store(s3_url).list() == before


def test_a_bucket_that_is_not_there_fails_with_its_name(s3_server: str, examined: Any) -> None:
    checks = examined("s3://no-such-bucket/run")

    assert checks["directory"].status == "failed"
    assert checks["directory"].found.startswith("cannot write s3://no-such-bucket/run/.octoscale-doctor-")
    assert "clock" in checks


@pytest.mark.parametrize("backend", ["fsspec", "obstore"])
def test_both_clients_are_examined(s3_url: str, backend: str) -> None:
    check = writable("directory", s3_url, StorageConfig.model_validate({"backend": backend}))

    assert check.status == "ok", check
    assert Store(s3_url).list() == []


def test_a_server_that_is_not_there_fails_soon(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    settings = StorageConfig(timeout_seconds=1.0, deadline_seconds=60.0)

    check = writable("directory", "s3://bucket/run", settings)

    assert check.status == "failed"
    assert check.found.startswith("cannot write s3://bucket/run/")
    assert "check the credentials, the network" in (check.advice or "")
