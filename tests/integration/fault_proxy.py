"""A proxy before an HTTP server that misbehaves as told: the tests' unreliable network and overloaded store."""

import http.client
import re
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any
from urllib.parse import unquote, urlsplit

_PIECE_BYTES = 64 * 1024
_HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"}


@dataclass(frozen=True)
class Answer:
    """The proxy answers by itself, as S3 would; the server is not asked."""

    status: int
    code: str
    details: str = ""


SLOW_DOWN = Answer(503, "SlowDown")
INTERNAL_ERROR = Answer(500, "InternalError")
EXPIRED_TOKEN = Answer(403, "ExpiredToken")
FORBIDDEN = Answer(403, "AccessDenied")
MISSING = Answer(404, "NoSuchKey")


@dataclass(frozen=True)
class Reset:
    """The connection is reset: at once, or when the server has done its work but before its answer is passed on."""

    after_the_work: bool = False


@dataclass(frozen=True)
class Stall:
    """Silence before the headers (`after_bytes` None) or within the body; then the connection ends."""

    after_bytes: int | None = None
    seconds: float = 60.0


@dataclass(frozen=True)
class Truncate:
    """The full Content-Length is promised, and the connection closed after `after_bytes` of the body."""

    after_bytes: int = 100


@dataclass(frozen=True)
class Flip:
    """The byte at `offset` of the body (counted from its end if negative) arrives inverted."""

    offset: int = -1


@dataclass(frozen=True)
class Drip:
    """The body arrives a byte at a time, `seconds` apart: never silent for long, never done."""

    seconds: float = 0.05


Fault = Answer | Reset | Stall | Truncate | Flip | Drip


@dataclass(frozen=True)
class Rule:
    """When `fault` happens: to requests of `method` whose path matches `key`, signed with `key_id`.

    Of these to the ones numbered in `nth` (from 1; None: all), each with `probability`. The first rule that strikes
    wins.
    """

    fault: Fault
    method: str | None = None
    key: str = ""
    nth: Sequence[int] | None = None
    probability: float = 1.0
    key_id: str = ""

    def matches(self, method: str, path: str, authorization: str = "") -> bool:
        signed = self.key_id in authorization
        return signed and self.method in (None, method) and re.search(self.key, path) is not None


@dataclass(frozen=True)
class Request:
    """One request that reached the proxy."""

    method: str
    path: str
    fault: Fault | None


@dataclass
class FaultProxy:
    """A running proxy: where it listens, what it saw, and what passed (`bytes_sent`: bodies, to the clients)."""

    url: str = ""
    log: list[Request] = field(default_factory=list)
    bytes_sent: int = 0
    bytes_received: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def requests(self) -> int:
        return len(self.log)

    def count(self, method: str | None = None, key: str = "", *, faulty: bool | None = None) -> int:
        """How many requests of `method` matched `key` (and met a fault, or none)."""
        return sum(
            Rule(MISSING, method, key).matches(seen.method, seen.path) and faulty in (None, seen.fault is not None)
            for seen in self.log
        )


@contextmanager
def faulty(endpoint: str, rules: Sequence[Rule] = (), seed: int = 0) -> Iterator[FaultProxy]:
    """A proxy on 127.0.0.1 before the server at `endpoint`, following `rules`, until the block ends."""
    proxy = FaultProxy()
    server = _Server(("127.0.0.1", 0), _Handler)
    server.proxy, server.upstream, server.rules = proxy, urlsplit(endpoint).netloc, list(rules)
    server.seen, server.random, server.lock = [0] * len(rules), Random(seed), threading.Lock()
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="fault-proxy")
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stopped.set()
        server.shutdown()
        thread.join()
        server.hang_up()
        server.server_close()  # Waits for the threads of the connections.


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128
    proxy: FaultProxy
    upstream: str
    rules: list[Rule]
    seen: list[int]
    random: Random
    lock: threading.Lock

    def __init__(self, *args: Any) -> None:
        self.open: set[socket.socket] = set()
        super().__init__(*args)

    def hang_up(self) -> None:
        """End the connections that clients keep alive; their threads would wait for the next request."""
        for connection in list(self.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def meet(self, method: str, path: str, authorization: str) -> Fault | None:
        """Note the request; the fault it meets."""
        struck: Fault | None = None
        with self.lock:
            for number, rule in enumerate(self.rules):
                if rule.matches(method, path, authorization):
                    self.seen[number] += 1
                    due = rule.nth is None or self.seen[number] in rule.nth
                    if struck is None and due and self.random.random() < rule.probability:
                        struck = rule.fault
            self.proxy.log.append(Request(method, path, struck))
        return struck

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.meet(self.command, unquote(self.path), self.headers.get("Authorization", ""))
        with self.server.lock:
            self.server.proxy.bytes_received += len(body)
        if isinstance(fault, Reset) and not fault.after_the_work:
            self._reset()
        elif isinstance(fault, Stall) and fault.after_bytes is None:
            self._wait(fault.seconds)
            self.close_connection = True
        elif isinstance(fault, Answer):
            text = f"<Error><Code>{fault.code}</Code><Message>as the test ordered</Message>{fault.details}</Error>"
            content = b"" if self.command == "HEAD" else f'<?xml version="1.0"?>{text}'.encode()
            self._head(fault.status, [("Content-Type", "application/xml")], len(content))
            self._send(content)
        else:
            self._pass_on(body, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815

    def _pass_on(self, body: bytes, fault: Fault | None) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "expect")}
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        try:
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        if isinstance(fault, Reset):
            self._reset()
            return
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP_HEADERS]
        promised = int(answer.getheader("Content-Length") or 0) if self.command == "HEAD" else len(content)
        self._head(answer.status, kept, promised)
        self._body(content, fault)

    def _body(self, content: bytes, fault: Fault | None) -> None:
        if isinstance(fault, Flip) and content:
            changed = bytearray(content)
            changed[fault.offset] ^= 0xFF
            content = bytes(changed)
        if isinstance(fault, Truncate | Stall):
            self._send(content[: fault.after_bytes])
            if isinstance(fault, Stall):
                self._wait(fault.seconds)
            self.close_connection = True
        elif isinstance(fault, Drip):
            for position in range(len(content)):
                self._send(content[position : position + 1])
                if self._wait(fault.seconds):
                    break
            self.close_connection = True
        else:
            self._send(content)

    def _head(self, status: int, headers: list[tuple[str, str]], length: int) -> None:
        self.send_response(status)
        for name, value in [*headers, ("Content-Length", str(length))]:
            self.send_header(name, value)
        self.end_headers()

    def _send(self, content: bytes) -> None:
        for start in range(0, len(content), _PIECE_BYTES):
            piece = content[start : start + _PIECE_BYTES]
            self.wfile.write(piece)
            with self.server.lock:
                self.server.proxy.bytes_sent += len(piece)

    def _wait(self, seconds: float) -> bool:
        return self.server.proxy.stopped.wait(seconds)

    def _reset(self) -> None:
        """Close with an RST instead of a FIN."""
        self.server.open.discard(self.connection)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(self.connection.detach())
        self.close_connection = True
