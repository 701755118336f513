"""Packages, devices, limits and disks, each well and each broken."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from octoscale.config import Config, parse_config
from octoscale.doctor import machine
from octoscale.doctor.check import Check
from octoscale.doctor.machine import devices, disks, open_files, packages, shared_memory
from octoscale.telemetry.words import size
from tests.conftest import SmallRun


@pytest.fixture
def config(small_run: SmallRun) -> Any:
    def make(directory: str | Path, **changes: Any) -> Config:
        return parse_config(small_run(directory, **changes), source="of the test")

    return make


def by_name(checks: Iterator[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_installed_packages_are_ok_and_named() -> None:
    found = by_name(packages(None))

    assert "packages" not in found or found["packages"].status == "warning"
    assert found["versions"].status == "ok"
    for name in ("octoscale ", "Python 3.", f"torch {torch.__version__.split('+')[0]}"):
        assert name in found["versions"].found


def test_a_package_that_this_run_needs_and_is_not_installed_fails(
    config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if no package's record were on the path.
    monkeypatch.setattr(sys, "path", [])
    settings = config(tmp_path / "run", telemetry={"recorders": ["tensorboard"]}, data={"url": "s3://bucket/data"})

    checks = [check for check in packages(settings) if check.name == "packages"]

    assert [(check.status, check.found) for check in checks] == [
        ("failed", "s3fs is missing, this run needs it"), ("failed", "tensorboardX is missing, this run needs it"),
    ]  # fmt: skip
    assert checks[0].advice == "pip install 'octoscale[s3]'"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_machine_without_gpus_is_ok_unless_the_run_wants_them() -> None:
    (check,) = devices(wants_gpus=False)
    assert f"{len(os.sched_getaffinity(0))} CPU cores" in check.found
    assert check.status != "failed"

    (check,) = devices(wants_gpus=True)
    assert check.status == "failed"
    assert "no GPU that PyTorch can use" in check.found


def test_the_limit_of_open_files() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        for limit, status in ((4096, "ok"), (1024, "warning"), (128, "failed")):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
            check = open_files()
            assert (check.status, check.found.split()[0]) == (status, f"{limit:,}")
            assert (check.advice is None) == (status == "ok")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_little_shared_memory_is_a_warning_and_a_failure_with_workers(
    small_disk: Path, config: Any, tmp_path: Path
) -> None:
    for workers, status in ((0, "warning"), (2, "failed")):
        check = shared_memory(config(tmp_path / "run", data={"workers": workers}), small_disk)
        assert check is not None
        assert (check.status, check.advice) == (status, "give the container more: docker run --shm-size=8g")
    assert shared_memory(None, tmp_path / "absent") is None


def test_a_disk_that_is_too_small_fails(small_disk: Path, config: Any) -> None:
    found = by_name(disks(config(small_disk / "run"), data_bytes=None, commit_bytes=None))
    assert found["run's disk"].status == "failed"
    free = size(shutil.disk_usage(small_disk).free)
    assert found["run's disk"].found == f"{free} free at {small_disk}"

    remote = config(small_disk / "run", data={"url": "s3://bucket/data", "cache_dir": str(small_disk / "cache")})
    found = by_name(disks(remote, data_bytes=10**9, commit_bytes=10**8))
    assert found["cache disk"].found == f"{free} free at {small_disk}, for 1.0 GB of the data set"
    # Two that are kept, the best, and one on its way.
    assert found["run's disk"].found == f"{free} free at {small_disk}, for 400 MB of commits"
    assert {check.status for check in found.values()} == {"failed"}


def test_what_is_in_the_cache_already_needs_no_room(
    small_disk: Path, config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_NO_DISK_BYTES", 0)
    remote = config(small_disk / "run", data={"url": "s3://bucket/data", "cache_dir": str(small_disk / "cache")})
    (small_disk / "cache").mkdir()
    (small_disk / "cache/shard").write_bytes(bytes(20 * 2**20))

    for needed, status in ((31 * 2**20, "warning"), (33 * 2**20, "failed")):
        check = by_name(disks(remote, data_bytes=needed, commit_bytes=None))["cache disk"]
        assert check.status == status, check


def test_a_large_disk_is_ok(config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_LITTLE_DISK_BYTES", 1)
    monkeypatch.setattr(machine, "_NO_DISK_BYTES", 0)
    settings = config(tmp_path / "run", checkpoint={"url": str(tmp_path / "commits")})

    found = by_name(disks(settings, data_bytes=None, commit_bytes=1000))

    assert {name: check.status for name, check in found.items()} == {"run's disk": "ok", "checkpoints' disk": "ok"}
    assert found["run's disk"].found.endswith(f"free at {tmp_path}, for 4.0 kB of commits")
