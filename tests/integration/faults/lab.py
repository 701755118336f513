"""A Ray cluster on several hosts of one machine, a store on another one, and runs that something happens to."""

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.integration.faults.network import Network, network

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
# How fast Ray's head takes a silent node for dead: docs/fault-tolerance.md explains them.
NODE_HEALTH = {
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
PORT = 6379


@dataclass(frozen=True)
class Traced:
    """What the ranks said of one step, or of the fault."""

    time: float
    pid: int
    event: str
    step: int = 0
    rank: int = -1
    world: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a fault cost: steps that were trained again, and the time from it to the first step after it."""

    fault: str
    steps_lost: int
    seconds: float
    worlds: list[int]


class Lab:
    """Hosts `head` (the driver, no workers), `a`, `b` (one worker each) and `store`; one run at a time."""

    def __init__(self, net: Network, folder: Path, sessions: Path) -> None:
        self.net = net
        self.folder = folder
        self.sessions = sessions
        self._nodes: dict[str, subprocess.Popen[str]] = {}
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))},
            **NODE_HEALTH,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": uuid.uuid4().hex,
            # A helper of Ray Train's looks for the dashboard of whatever cluster it finds in /proc.
            "RAY_API_SERVER_ADDRESS": "http://127.0.0.1:9",
            "GLOO_SOCKET_IFNAME": "eth0",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{HERE / 'injected'}:{ROOT}",
            "OCTOSCALE_LAB": str(folder),
            "AWS_ENDPOINT_URL": "",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for host in ("head", "a", "b", "store"):
            net.add(host)
        self.environment["AWS_ENDPOINT_URL"] = f"http://{net.address('store')}:5000"
        self.environment["NO_PROXY"] = self.environment["no_proxy"] = "10.77.0.0/24,127.0.0.1," + ",".join(
            net.address(host) for host in ("head", "a", "b", "store")
        )

    # -- the cluster ---------------------------------------------------------------------------------------------

    def ensure_cluster(self, *hosts: str) -> None:
        """The head and exactly these nodes are up."""
        if not self._is_up("head"):
            for host in ("a", "b", "head"):
                self.kill_host(host)
            self._start_node("head", ["--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false"])
        for host in ("a", "b"):
            if host not in hosts:
                self.kill_host(host)
            elif not self._is_up(host):
                self.kill_host(host)
                self.start_node(host)

    def start_node(self, host: str) -> None:
        self._start_node(host, [f"--address={self.net.address('head')}:{PORT}", "--num-cpus=1"])

    def _start_node(self, host: str, options: list[str]) -> None:
        ray = str(Path(sys.executable).with_name("ray"))
        command = [ray, "start", "--block", f"--node-ip-address={self.net.address(host)}", "--disable-usage-stats",
                   "--object-store-memory=80000000", *options]  # fmt: skip
        if host == "head":
            command.append(f"--temp-dir={self.sessions}")
        log = self.folder / f"node-{host}.log"
        with log.open("w") as file:
            self._nodes[host] = self.net.start(host, command, env=self.environment, stdout=file, stderr=file)
        self.wait(lambda: "runtime started" in log.read_text(), 120, lambda: log.read_text())

    def _is_up(self, host: str) -> bool:
        return host in self._nodes and self._nodes[host].poll() is None

    def kill_host(self, host: str) -> None:
        self.net.kill(host)
        node = self._nodes.pop(host, None)
        if node is not None:
            node.wait(60)

    # -- the store -----------------------------------------------------------------------------------------------

    def ensure_store(self) -> None:
        """An S3 server on its host, behind a door of its own that can be killed without its content."""
        if "moto" not in self._nodes or self._nodes["moto"].poll() is not None:
            server = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "5001"]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            self._nodes["moto"] = self.net.start("store", server, env=self.environment, **quiet)
        self.open_store()

    def open_store(self) -> None:
        door = [sys.executable, str(HERE / "door.py"), self.net.address("store"), "5000", "5001"]
        log = self.folder / "door.log"
        with log.open("w") as file:
            self._nodes["door"] = self.net.start("store", door, env=self.environment, stdout=file, stderr=file)
        self.wait(lambda: "open" in log.read_text(), 60, lambda: log.read_text())

    def new_bucket(self) -> str:
        """The URL of an empty bucket."""
        self.ensure_store()
        name = f"bucket-{uuid.uuid4().hex[:8]}"
        self.on_the_head(f"import s3fs; s3fs.S3FileSystem().mkdir('{name}')")
        return f"s3://{name}"

    def fetch(self, url: str, directory: str) -> None:
        """The content of a bucket into a local folder, which a test can read."""
        self.on_the_head(f"import s3fs; s3fs.S3FileSystem().get('{url}/', '{directory}', recursive=True)")

    def on_the_head(self, script: str) -> str:
        """A script of Python's on the head's host; what it printed."""
        done = self.net.start(
            "head", [sys.executable, "-c", script], env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        told, _ = done.communicate(timeout=120)
        assert done.returncode == 0, told
        return told

    def kill_store(self) -> None:
        self._nodes["door"].kill()
        self._nodes["door"].wait(60)

    # -- a run ---------------------------------------------------------------------------------------------------

    def prepare(self, rank: int, step: int, kind: str, *, pace: float = 0.0) -> None:
        """`fail_at`: what is going to happen to the next run."""
        for name in ("fired", "held", "released", "trace.jsonl", "told.log"):
            (self.folder / name).unlink(missing_ok=True)
        (self.folder / "trace.jsonl").touch()
        (self.folder / "fault.json").write_text(json.dumps({"rank": rank, "step": step, "kind": kind, "pace": pace}))

    def launch(self, values: dict[str, Any], workers: str) -> "subprocess.Popen[str]":
        """`octoscale launch` on the head's host."""
        file = self.folder / "run.yaml"
        file.write_text(yaml.safe_dump(values))
        command = [sys.executable, "-m", "octoscale.cli", "launch", str(file), "--workers", workers,
                   "--address", f"{self.net.address('head')}:{PORT}"]  # fmt: skip
        # Into a file: nobody reads a pipe while the lab is at work.
        with self.told_file.open("a") as told:
            return self.net.start("head", command, env=self.environment, stdout=told, stderr=told)

    @property
    def told_file(self) -> Path:
        return self.folder / "told.log"

    def held(self, process: "subprocess.Popen[str]") -> int:
        """The rank that holds before its step: its process."""
        file = self.folder / "held"
        # It is there before it has its content.
        self.wait(lambda: file.exists() and file.read_text() != "", 240, self.told, process)
        return int(file.read_text())

    def release(self) -> None:
        (self.folder / "released").touch()

    def mark(self, event: str) -> None:
        """The lab itself does something, now."""
        line = json.dumps({"time": time.time(), "pid": os.getpid(), "event": event}) + "\n"
        with (self.folder / "trace.jsonl").open("a") as file:
            file.write(line)

    def told(self) -> str:
        return self.told_file.read_text() if self.told_file.exists() else ""

    def trace(self) -> list[Traced]:
        # The last line may be in the making.
        *lines, _ = (self.folder / "trace.jsonl").read_text().split("\n")
        return [Traced(**json.loads(line)) for line in lines]

    def wait_for_step(self, step: int, process: "subprocess.Popen[str]") -> None:
        self.wait(lambda: any(line.step >= step for line in self.trace()), 180, self.told, process)

    def finish(self, process: "subprocess.Popen[str]", *, code: int = 0, seconds: float = 360) -> str:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"the run hangs:\n{self.told()[-4000:]}") from None
        assert process.returncode == code, self.told()[-4000:]
        return self.told()

    def wait(
        self,
        ready: Callable[[], object],
        seconds: float,
        told: Callable[[], str],
        process: "subprocess.Popen[str] | None" = None,
    ) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            assert process is None or process.poll() is None, told()[-4000:]
            assert time.monotonic() < deadline, told()[-4000:]
            time.sleep(0.05)

    def outcome(self, fault: str) -> Outcome:
        """From the trace: the last event that is no step, and the steps before and after it."""
        lines = self.trace()
        event = max(line.time for line in lines if line.event != "step")
        before = [line for line in lines if line.event == "step" and line.time <= event]
        old = {line.pid for line in before}
        later = [line for line in lines if line.event == "step" and line.time > event]
        # Where the fault did not end the workers, the same go on.
        new = [line for line in later if line.pid not in old] or later
        first = min(new, key=lambda line: line.time)
        reached = max(line.step for line in lines if line.event == "step" and line.pid in old)
        lost = max(0, reached - min(line.step for line in new) + 1) if first.pid not in old else 0
        worlds = [line.world for line in lines if line.event == "step" and line.rank == 0]
        changes = [world for i, world in enumerate(worlds) if i == 0 or worlds[i - 1] != world]
        return Outcome(fault, lost, round(first.time - event, 1), changes)


@contextmanager
def lab() -> Iterator[Lab]:
    """A lab without a cluster yet; all its processes, namespaces and files end with the block."""
    with ExitStack() as stack:
        # Removed when the processes have ended. Sockets' paths are short.
        folder, sessions = (
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)))
            for prefix in ("octolab-", "oray")
        )
        made = Lab(stack.enter_context(network()), folder, sessions)
        yield made
