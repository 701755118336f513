"""Hosts on one machine: network namespaces on a bridge that has a namespace of its own. Needs root."""

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def why_not() -> str | None:
    """Why this machine cannot have namespaces; None where it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "no ip command (iproute2)"
    probe = f"octo-{uuid.uuid4().hex[:6]}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode != 0:
        return f"no network namespaces here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", probe], check=True)
    return None


class Network:
    """Hosts of one bridge; host number n has the address 10.77.0.n. Nothing of it is visible outside."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._hosts: dict[str, str] = {}
        self._hub = f"{prefix}-hub"
        _ip("netns", "add", self._hub)
        _ip("-n", self._hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._hub, "link", "set", "bridge", "up")

    def add(self, host: str) -> str:
        """A new host; its address."""
        space, address = self._space(host), f"10.77.0.{len(self._hosts) + 1}"
        self._hosts[host] = address
        _ip("netns", "add", space)
        _ip("-n", space, "link", "set", "lo", "up")
        _ip("-n", self._hub, "link", "add", f"to-{host}", "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")
        _ip("-n", self._hub, "link", "set", f"to-{host}", "master", "bridge", "up")
        return address

    def address(self, host: str) -> str:
        return self._hosts[host]

    def cut(self, host: str) -> None:
        """Silence: packets to and from the host are lost, and nobody is told."""
        _ip("-n", self._hub, "link", "set", f"to-{host}", "down")

    def heal(self, host: str) -> None:
        _ip("-n", self._hub, "link", "set", f"to-{host}", "up")

    def start(self, host: str, command: list[str], **options: object) -> "subprocess.Popen[str]":
        """A process on the host."""
        return subprocess.Popen(["ip", "netns", "exec", self._space(host), *command], text=True, **options)  # type: ignore[call-overload, no-any-return]

    def host_of(self, process: int) -> str:
        """The host that a process runs on."""
        space = _ip("netns", "identify", str(process)).strip()
        return space.removeprefix(f"{self._prefix}-")

    def processes(self, host: str) -> list[int]:
        return [int(line) for line in _ip("netns", "pids", self._space(host)).split()]

    def kill(self, host: str) -> None:
        """Every process of the host ends at once, as with its power."""
        deadline = time.monotonic() + 60
        while left := self.processes(host):
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            assert time.monotonic() < deadline, left
            time.sleep(0.1)

    def close(self) -> None:
        for host in self._hosts:
            self.kill(host)
            _ip("netns", "delete", self._space(host))
        _ip("netns", "delete", self._hub)

    def _space(self, host: str) -> str:
        return f"{self._prefix}-{host}"


@contextmanager
def network() -> Iterator[Network]:
    made = Network(f"octo{uuid.uuid4().hex[:5]}")
    try:
        yield made
    finally:
        made.close()


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout
