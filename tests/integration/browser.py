"""Chromium without a window, spoken to in its DevTools protocol over a pipe: no port, no further package."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
# No name is resolved, so that a request that should not be is seen, and fails.
_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe",
)  # fmt: skip
# The browser reads descriptor 3 and writes descriptor 4.
_START = "import os, sys; read, write = map(int, sys.argv[1:3]); os.dup2(read, 3); os.dup2(write, 4); "
_START += "os.execv(sys.argv[3], sys.argv[3:])"
_TIMEOUT_SECONDS = 120.0


class Browser:
    """One tab. `events` holds what it has told of itself, in order."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[tuple[str, dict[str, Any]]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of one command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, path: Path) -> None:
        """Load a local page, and wait until it is there with all it asks for."""
        self.ask("Page.navigate", url=path.as_uri())
        while not any(name == "Page.loadEventFired" for name, _ in self.events):
            self._next()

    def show(self, *, width: int, height: int = 900, scheme: str = "light", medium: str = "screen") -> None:
        """Set the window and what style sheets ask for."""
        mobile = width < 500
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", media=medium, features=features)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression comes to."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        taken = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    def pdf(self, path: Path) -> None:
        """The page as it is printed."""
        path.write_bytes(base64.b64decode(self.ask("Page.printToPDF", printBackground=True)["data"]))

    def requests(self) -> list[str]:
        """Every URL that was asked for."""
        return [event["request"]["url"] for name, event in self.events if name == "Network.requestWillBeSent"]

    def errors(self) -> list[str]:
        """What a developer would see in red."""
        told = []
        for name, event in self.events:
            if name == "Runtime.exceptionThrown":
                told.append(str(event["exceptionDetails"]))
            elif (name == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning")) or (
                name == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert")
            ):
                told.append(str(event))
        return told

    def _next(self) -> dict[str, Any]:
        """The next message; an event is kept."""
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the browser has not answered for {_TIMEOUT_SECONDS:g} s"
            data = os.read(self._read, 1 << 20)
            assert data, "the browser has ended"
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self.events.append((message["method"], message["params"]))
        return message


@contextmanager
def started() -> Iterator[Browser]:
    """A browser with an empty profile; skips where there is none."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(_NAMES)} is installed")
    theirs_read, our_write = _pipe()
    our_read, theirs_write = _pipe()
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        command = [sys.executable, "-c", _START, str(theirs_read), str(theirs_write), program, *_OPTIONS]
        process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}"], pass_fds=(theirs_read, theirs_write),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_read)
        os.close(theirs_write)
        try:
            yield Browser(our_read, our_write)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(our_read)
            os.close(our_write)


def _pipe() -> tuple[int, int]:
    """Both ends above the descriptors that the browser expects its own at."""
    ends = os.pipe()
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return read, write
