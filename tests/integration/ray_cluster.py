"""A Ray cluster of several nodes on this machine, as somebody else would have started it, with its own token."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RayCluster:
    """Addresses on the loopback interface, and what a client needs to be let in."""

    job_server: str
    environment: dict[str, str]
    processes: tuple[int, ...]

    def octoscale(self, *arguments: str | Path, **changes: str) -> "subprocess.Popen[str]":
        """The command, in a process of its own; stdout and stderr apart."""
        command = [sys.executable, "-m", "octoscale.cli", *map(str, arguments), "--address", self.job_server]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**self.environment, **changes}
        )


@contextmanager
def ray_cluster(node_cpus: Sequence[int]) -> Iterator[RayCluster]:
    """A head without CPUs, with job server and token, and one node for each of `node_cpus`; all end with the block."""
    port, dashboard_port = _free_ports(2)
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": uuid.uuid4().hex,
        # The job server starts `python`: this one.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    ray = str(Path(sys.executable).with_name("ray"))
    common = ["--node-ip-address=127.0.0.1", "--disable-usage-stats", "--block"]
    head = ["--head", "--num-cpus=0", f"--port={port}", "--dashboard-host=127.0.0.1",
            f"--dashboard-port={dashboard_port}", "--include-dashboard=true"]  # fmt: skip
    started: list[subprocess.Popen[bytes]] = []
    # Sockets' paths are short: the temporary folders of tests are too deep for them.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:

        def start(name: str, options: list[str]) -> None:
            log = Path(folder, f"{name}.log")
            with log.open("w") as output:
                process = subprocess.Popen(
                    [ray, "start", *options, *common], stdout=output, stderr=output, env=environment
                )
            started.append(process)
            deadline = time.monotonic() + 90
            while not re.search("runtime started", told := log.read_text()):
                assert process.poll() is None, told
                assert time.monotonic() < deadline, told
                time.sleep(0.1)

        try:
            start("head", [*head, f"--temp-dir={folder}"])
            for number, cpus in enumerate(node_cpus):
                start(f"node{number}", [f"--address=127.0.0.1:{port}", f"--num-cpus={cpus}"])
            processes = tuple(process.pid for process in started)
            yield RayCluster(f"http://127.0.0.1:{dashboard_port}", environment, processes)
        finally:
            left = [child for process in started for child in descendants(process.pid)]
            for process in reversed(started):
                process.terminate()
            for process in started:
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(10)
            for child in left:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)


def descendants(parent: int) -> list[int]:
    """Processes that `parent` started, and those that they started."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # The name in brackets may hold spaces; the parent is the second field after it.
                above = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(above, []).append(int(entry.name))
    found, waiting = [], [parent]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def title(process: int) -> str:
    """The command line of a process; empty where it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _free_ports(count: int) -> list[int]:
    with socket.socket() as first, socket.socket() as second:
        listeners = [first, second][:count]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in listeners]
