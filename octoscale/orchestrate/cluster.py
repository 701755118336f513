"""The Ray cluster that a run uses: one that exists, or one on this machine for the time of the run."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.autoscaler.sdk import request_resources

from octoscale.errors import OctoscaleError
from octoscale.resilience import Workers

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


@contextmanager
def connected(address: str | None, workers: int) -> Iterator[None]:
    """A connection to the cluster at `address`, or a cluster on this machine for the time.

    A connection that the caller already has is used and left alone.
    """
    if ray.is_initialized():
        yield
        return
    # Ray's own lines only where something is wrong, and the workers' without its prefix.
    calm = {"logging_level": logging.ERROR, "logging_config": ray.LoggingConfig(log_level="ERROR")}
    if address is not None:
        _check_reachable(address)
        try:
            ray.init(address=address, **calm)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            # Something listens there. Ray sends its token to an address only where it is told to.
            raise OctoscaleError(
                f"cannot join a Ray cluster at {address}: {error}; if the cluster asks for a token (Ray's default), "
                "set RAY_AUTH_MODE=token"
            ) from error
    else:
        # The machine's threads belong to the ranks: Ray would give each one thread.
        threads = max(1, (os.cpu_count() or 1) // workers)
        variables = {
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
            # Nobody takes the machine away from a cluster of one.
            "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
            # There is no dashboard, and a helper of Ray Train's is not to look for one: it ends with a traceback
            # where several clusters run on the machine.
            "RAY_API_SERVER_ADDRESS": "http://127.0.0.1:9",
        }
        ray.init(
            address="local",
            num_cpus=max(workers, os.cpu_count() or 1),
            include_dashboard=False,
            runtime_env={"env_vars": variables},
            **calm,
        )
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray would try for minutes."""
    if address == "auto":
        return
    host, separator, port = address.rpartition(":")
    if not separator or "/" in host or not port.isdecimal():
        raise OctoscaleError(f"a Ray address is auto or host:port, not {address!r}; run this on a node of the cluster")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise OctoscaleError(f"no Ray cluster at {address}: {error}; start one, or leave the address out") from error


@contextmanager
def signals_restored() -> Iterator[None]:
    """Ray sets handlers for its run and leaves them behind."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler or signal.SIG_DFL)


def check_resources(workers: Workers, *, gpus: bool | None, wait_seconds: float = 0.0) -> bool:
    """Whether the workers get GPUs. Ray would wait for ever for what the cluster does not have.

    Args:
        gpus: True or False decide it; None: where the cluster has some.
        wait_seconds: how long to wait for nodes, which an autoscaler is asked for.

    Raises:
        OctoscaleError: the cluster is, and stays, too small for the fewest workers that are wanted.
    """
    missing = _missing(workers.minimum, gpus)
    if missing and wait_seconds > 0:
        logger.warning("%s: waiting up to %.0f s for nodes", missing, wait_seconds)
        missing = _wait_for_nodes(workers, gpus, wait_seconds)
    if missing:
        raise OctoscaleError(
            f"{missing}; ask for fewer workers, or, where an autoscaler has yet to start nodes, for patience: "
            "resilience.node_wait_seconds"
        )
    total, free = ray.cluster_resources(), ray.available_resources()
    for kind in _kinds(gpus):
        wanted = min(int(total.get(kind, 0)), workers.maximum)
        if free.get(kind, 0) < wanted:
            logger.warning(
                "%d of the cluster's %d %ss are free: waiting for %d",
                free.get(kind, 0), total.get(kind, 0), kind, wanted,
            )  # fmt: skip
    return "GPU" in _kinds(gpus)


def _kinds(gpus: bool | None) -> tuple[str, ...]:
    """What a worker takes one of: Ray Train gives each a CPU beside its GPU."""
    if gpus is None:
        gpus = ray.cluster_resources().get("GPU", 0) >= 1
    return ("GPU", "CPU") if gpus else ("CPU",)


def _missing(workers: int, gpus: bool | None) -> str | None:
    """What the cluster lacks for so many workers, in words."""
    total = ray.cluster_resources()
    for kind in _kinds(gpus):
        count = int(total.get(kind, 0))
        if count < workers:
            return f"the cluster has {count} {kind}s for {workers} workers"
    return None


def _wait_for_nodes(workers: Workers, gpus: bool | None, seconds: float) -> str | None:
    """What is still missing when there is room, or after `seconds`."""
    # Without an autoscaler nobody reads it, and somebody may add nodes by hand.
    request_resources(bundles=[dict.fromkeys(_kinds(gpus), 1)] * workers.maximum)
    try:
        deadline = time.monotonic() + seconds
        while (missing := _missing(workers.minimum, gpus)) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        return missing
    finally:
        # From now on the workers themselves keep their nodes.
        request_resources(bundles=[])
