"""All checks, in the order in which a run would meet what they check."""

from collections.abc import Iterator

import torch

from octoscale.config import Config
from octoscale.data.index import Manifest
from octoscale.doctor import machine, network, places
from octoscale.doctor.check import Check
from octoscale.errors import OctoscaleError
from octoscale.geometry import commit_bytes, possible_geometries
from octoscale.telemetry.config import TelemetryConfig


def examine(config: Config | None, *, ray_address: str | None = None) -> Iterator[Check]:
    """Look at this machine, and at what the run in `config` needs of it; one check after the other.

    Args:
        config: a run; None: what every run needs.
        ray_address: a Ray cluster that must answer, as `launch` and `submit` take it.
    """
    yield from machine.packages(config)
    yield from machine.devices(wants_gpus=config is not None and config.resilience.gpus is True)
    yield from network.collectives()
    yield machine.open_files()
    if (shared := machine.shared_memory(config)) is not None:
        yield shared
    yield network.ports(TelemetryConfig() if config is None else config.telemetry, _ranks_here(config))
    yield from _ray(ray_address)
    if config is not None:
        yield from _run(config)


def _run(config: Config) -> Iterator[Check]:
    try:
        sizes = [str(geometry.world_size) for geometry in possible_geometries(config)]
        found = f"the batch of {config.global_batch_size:,} divides on so many ranks: {', '.join(sizes)}"
        yield Check("geometry", "ok", found)
    except OctoscaleError as error:
        yield Check.failed("geometry", error)
    there, manifest = places.data_set(config)
    yield there
    if manifest is not None and manifest.identities < config.global_batch_size // 2:
        yield Check(
            "geometry", "failed",
            f"global_batch_size {config.global_batch_size:,} needs {config.global_batch_size // 2:,} identities, the "
            f"data set has {manifest.identities:,}",
            f"choose at most {2 * manifest.identities:,}",
        )  # fmt: skip
    yield from places.files(config)
    yield places.writable("directory", config.directory, config.storage)
    if config.checkpoint.url is not None:
        yield places.writable("checkpoint.url", config.checkpoint.url, config.storage)
    yield from machine.disks(config, data_bytes=_bytes(manifest), commit_bytes=_commit(config))
    for url in dict.fromkeys((config.directory, config.checkpoint.url or config.directory, config.data.url)):
        if (skew := network.clock(url, config.storage)) is not None:
            yield skew
            break


def _ray(address: str | None) -> Iterator[Check]:
    try:
        from octoscale.orchestrate.health import reached
    except (OctoscaleError, ImportError):
        advice = "pip install 'octoscale[ray]', which `octoscale launch` and `submit` need"
        yield Check("ray", "failed" if address else "warning", "Ray is not installed", advice)
        return
    if address is None:
        return
    try:
        yield Check("ray", "ok", reached(address))
    except OctoscaleError as error:
        yield Check.failed("ray", error)


def _ranks_here(config: Config | None) -> int:
    """At most, on this machine."""
    ranks = 1 if config is None else config.resilience.world.maximum
    return min(ranks, torch.cuda.device_count()) if torch.cuda.is_available() else ranks


def _bytes(manifest: Manifest | None) -> int | None:
    return None if manifest is None else sum(shard.size_bytes for shard in manifest.shards)


def _commit(config: Config) -> int | None:
    try:
        return commit_bytes(config)
    except OctoscaleError:
        # Told as the geometry's.
        return None
