"""The ranks' network, and the ports and clocks of this machine."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from errno import EADDRINUSE

import torch

from octoscale.data.storage_config import S3_SCHEMES, StorageConfig, scheme_of
from octoscale.doctor.check import Check
from octoscale.telemetry.config import TelemetryConfig

# Importing PyTorch twice is most of it.
_RANKS_SECONDS = 90.0
_HTTP_SECONDS = 10.0
_SERVERS = {"gs": "https://storage.googleapis.com", "gcs": "https://storage.googleapis.com"}
# A Date has whole seconds; S3 refuses requests that are 15 minutes off.
_SKEW_WARNING_SECONDS, _SKEW_FAILED_SECONDS = 5.0, 600.0


def all_reduce(backend: str, world_size: int, *, timeout_seconds: float = _RANKS_SECONDS) -> Check:
    """Let so many processes on this machine really sum a vector."""
    name = f"{backend} all-reduce"
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="octoscale-doctor-") as folder:
        command = [sys.executable, "-m", "octoscale.doctor.ranks", backend]
        ranks = [
            subprocess.Popen(
                [*command, str(rank), str(world_size), folder],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(world_size)
        ]
        try:
            for rank in ranks:
                _, told = rank.communicate(timeout=max(0.0, began + timeout_seconds - time.monotonic()))
                if rank.returncode:
                    last = (told.strip().splitlines() or [f"exit code {rank.returncode}"])[-1]
                    return Check(
                        name, "failed", last, "check the firewall of the loopback interface and PyTorch's build"
                    )
        except subprocess.TimeoutExpired:
            return Check(
                name, "failed", f"{world_size} processes did not meet within {timeout_seconds:.0f} s",
                "check the firewall of the loopback interface, and how busy this machine is",
            )  # fmt: skip
        finally:
            for rank in ranks:
                rank.kill()
                rank.wait()
    return Check(name, "ok", f"{world_size} processes in {time.monotonic() - began:.1f} s")


def collectives() -> Iterator[Check]:
    """Gloo by two processes on the loopback, and NCCL by up to two GPUs."""
    yield all_reduce("gloo", 2)
    if torch.cuda.is_available():
        yield all_reduce("nccl", min(2, torch.cuda.device_count()))


def ports(telemetry: TelemetryConfig, ranks: int) -> Check:
    """Whether the metrics of so many ranks of this machine can be served where they are to be."""
    name, host, first = "metrics ports", telemetry.metrics_host, telemetry.metrics_port
    if "prometheus" not in telemetry.recorders:
        return Check(name, "ok", "none are served: telemetry.recorders has no prometheus")
    wanted = [first + rank for rank in range(ranks)] if first else [0]
    if wanted[-1] > 65535:
        return Check(name, "failed", f"rank {ranks - 1} would serve port {wanted[-1]}", "lower telemetry.metrics_port")
    taken = []
    for port in wanted:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, port))
            except OSError as error:
                if error.errno != EADDRINUSE:
                    return Check(
                        name, "failed", f"cannot serve on {host}: {error.strerror or error}",
                        "set telemetry.metrics_host to an address of this machine",
                    )  # fmt: skip
                taken.append(port)
    if taken:
        shown = ", ".join(map(str, taken[:5])) + (" …" if len(taken) > 5 else "")
        return Check(
            name, "warning", f"in use on {host}: {shown}; those ranks will serve other ports",
            "choose another telemetry.metrics_port, or 0 for any free port",
        )  # fmt: skip
    if not first:
        return Check(name, "ok", f"any free port of {host}")
    return Check(name, "ok", f"free on {host}: {first}" + (f" to {wanted[-1]}" if ranks > 1 else ""))


def clock(url: str, storage: StorageConfig) -> Check | None:
    """How far this clock is from that of the store of `url`; None where its server is not known."""
    server = _server(url, storage)
    if server is None:
        return None
    name = "clock"
    request = urllib.request.Request(server, method="HEAD")
    before = time.time()
    try:
        with urllib.request.urlopen(request, timeout=_HTTP_SECONDS) as answer:
            told = answer.headers.get("Date")
    except urllib.error.HTTPError as error:
        # A refusal has the time, too.
        told = error.headers.get("Date")
    except (OSError, ValueError) as error:
        return Check(name, "warning", f"{server} does not tell its time: {error}", "check the network and the endpoint")
    here = (before + time.time()) / 2
    try:
        # On average half a second is cut off.
        skew = parsedate_to_datetime(told or "").timestamp() + 0.5 - here
    except ValueError:
        return Check(name, "warning", f"{server} does not tell its time", "compare the clocks by hand")
    found = f"{abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} {server}"
    if abs(skew) >= _SKEW_FAILED_SECONDS:
        return Check(name, "failed", found, "set the clock (NTP): the store refuses requests that are 15 minutes off")
    if abs(skew) >= _SKEW_WARNING_SECONDS:
        return Check(name, "warning", found, "set the clock (NTP): ages of commits will be wrong")
    return Check(name, "ok", f"within seconds of {server}")


def _server(url: str, storage: StorageConfig) -> str | None:
    scheme = scheme_of(url)
    if scheme in S3_SCHEMES:
        named = storage.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return named or "https://s3.amazonaws.com"
    return _SERVERS.get(scheme)
