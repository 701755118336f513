"""This machine: packages, devices, limits, disks."""

import os
import resource
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch
from packaging.requirements import Requirement

import octoscale
from octoscale.config import Config
from octoscale.data.storage import Store
from octoscale.data.storage_config import S3_SCHEMES, is_local, scheme_of
from octoscale.doctor.check import Check, Status
from octoscale.telemetry.words import size

_FEW_FILES, _TOO_FEW_FILES = 4096, 256
# Docker gives 64 MB.
_LITTLE_SHARED_BYTES = 512 * 2**20
_LITTLE_DISK_BYTES, _NO_DISK_BYTES = 2**30, 64 * 2**20
_SHARED_MEMORY = Path("/dev/shm")


def packages(config: Config | None) -> Iterator[Check]:
    """Whether what octoscale requires is installed, in versions that fit; and what this run needs beside."""
    try:
        required = [Requirement(text) for text in requires("octoscale") or ()]
    except PackageNotFoundError:
        required = []
    wrong = []
    for requirement in required:
        found = _version(requirement.name)
        always = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        fits = found is not None and requirement.specifier.contains(found, prereleases=True)
        # What is optional may be absent, but not another version.
        if not fits and (always or found is not None):
            wrong.append(
                (always, f"{requirement.name} {found or 'is missing'}", f"{requirement.name}{requirement.specifier}")
            )
    for always, found, wanted in dict.fromkeys(wrong):
        yield Check("packages", "failed" if always else "warning", found, f"pip install '{wanted}'")
    for package, extra in _needed(config):
        if _version(package) is None:
            yield Check(
                "packages", "failed", f"{package} is missing, this run needs it", f"pip install 'octoscale[{extra}]'"
            )
    shown = ["torch", "ray", "deepspeed", "s3fs", "obstore"]
    versions = [f"{name} {found}" for name in shown if (found := _version(name))]
    python = ".".join(map(str, sys.version_info[:3]))
    yield Check("versions", "ok", ", ".join([f"octoscale {octoscale.__version__}", f"Python {python}", *versions]))


def _needed(config: Config | None) -> Iterator[tuple[str, str]]:
    if config is None:
        return
    urls = [config.directory, config.data.url, config.checkpoint.url or ""]
    if config.storage.backend == "obstore" and any(not is_local(url) for url in urls):
        yield "obstore", "obstore"
    elif any(scheme_of(url) in S3_SCHEMES for url in urls):
        yield "s3fs", "s3"
    if config.engine == "deepspeed":
        yield "deepspeed", "cluster"
    if "tensorboard" in config.telemetry.recorders:
        yield "tensorboardX", "tensorboard"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def devices(*, wants_gpus: bool) -> Iterator[Check]:
    """The GPUs, each by a product of matrices; or the cores."""
    cores = f"{len(os.sched_getaffinity(0))} CPU cores"
    if not torch.cuda.is_available():
        if wants_gpus:
            yield Check("devices", "failed", f"{cores}, no GPU that PyTorch can use, and resilience.gpus is true",
                        "install a PyTorch build for this machine's driver, or set resilience.gpus=false")  # fmt: skip
        elif Path("/proc/driver/nvidia").exists():
            yield Check("devices", "warning", f"{cores}; there is an NVIDIA driver, and PyTorch sees no GPU",
                        "install a PyTorch build for this driver, or check CUDA_VISIBLE_DEVICES")  # fmt: skip
        else:
            yield Check("devices", "ok", f"{cores}, no GPU")
        return
    for number in range(torch.cuda.device_count()):
        name = f"device {number}"
        try:
            ones = torch.ones(256, 256, device=torch.device("cuda", number))
            right = bool(((ones @ ones) == 256).all())
            free, total = torch.cuda.mem_get_info(number)
        except RuntimeError as error:
            told = str(error).splitlines()[0]
            yield Check(name, "failed", told, "look at nvidia-smi: another process may hold it")
            continue
        found = f"{torch.cuda.get_device_name(number)}, {size(free)} of {size(total)} free"
        if right:
            yield Check(name, "ok", found)
        else:
            yield Check(name, "failed", f"{found}; it multiplies wrong", "take this GPU out of service")


def open_files() -> Check:
    """How many files and sockets a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{soft:,}" if soft != resource.RLIM_INFINITY else "unlimited"
    if soft == resource.RLIM_INFINITY or soft >= _FEW_FILES:
        return Check("open files", "ok", found)
    most = "65536" if hard == resource.RLIM_INFINITY or hard >= 65536 else str(hard)
    status: Status = "failed" if soft < _TOO_FEW_FILES else "warning"
    return Check("open files", status, f"{found} for each process; Ray and the reader's connections may need more",
                 f"ulimit -n {most}")  # fmt: skip


def shared_memory(config: Config | None, folder: Path = _SHARED_MEMORY) -> Check | None:
    """What the data workers, and Ray, share images through; None where the system has none."""
    if not folder.is_dir():
        return None
    usage = shutil.disk_usage(folder)
    found = f"{size(usage.free)} of {size(usage.total)} free in {folder}"
    if usage.free >= _LITTLE_SHARED_BYTES:
        return Check("shared memory", "ok", found)
    workers = 0 if config is None else config.data.workers
    return Check("shared memory", "failed" if workers and usage.free < _NO_DISK_BYTES else "warning", found,
                 "give the container more: docker run --shm-size=8g")  # fmt: skip


def disks(config: Config, *, data_bytes: int | None, commit_bytes: int | None) -> Iterator[Check]:
    """Room for the cache of a remote data set, and for the commits of a local run.

    Args:
        data_bytes: of the data set's shards; None where they are not known.
        commit_bytes: of one commit; None where it is not known.
    """
    if not is_local(config.data.url):
        cache = Path(config.data.cache_dir).expanduser()
        needed = config.data.cache_bytes or data_bytes
        yield _room("cache disk", cache, needed, "of the data set", "data.cache_dir, or use data.mode=windowed")
    for key, url in (("run's disk", config.directory), ("checkpoints' disk", config.checkpoint.url)):
        if url is not None and is_local(url):
            # Those that are kept, the best, and one on its way.
            needed = None if commit_bytes is None else commit_bytes * (config.checkpoint.keep_last + 2)
            yield _room(key, Store(url).local_path(), needed, "of commits", "another folder")


def _room(name: str, folder: Path, needed: int | None, what: str, advice: str) -> Check:
    """`folder` may have `needed` bytes already, or a part of them."""
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    found = f"{size(free)} free at {there}"
    if needed is not None and needed > free + held:
        return Check(name, "failed", f"{found}, for {size(needed)} {what}", f"make room, or choose {advice}")
    if free < _NO_DISK_BYTES:
        return Check(name, "failed", found, f"make room, or choose {advice}")
    if free < _LITTLE_DISK_BYTES:
        return Check(name, "warning", found, f"make room, or choose {advice}")
    return Check(name, "ok", found + ("" if needed is None else f", for {size(needed)} {what}"))
