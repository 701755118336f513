"""Reading what ranks serve, over HTTP."""

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from octoscale.telemetry.metrics import Metrics, served
from octoscale.telemetry.scrape import Scrape, parse, scrape, url_of
from tests.unit.http_server import serving


@contextmanager
def answering(status: int, body: bytes, *, when: threading.Event | None = None) -> Iterator[str]:
    """A server that has this answer to everything, once `when` is set; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if when is not None:
                when.wait(120)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as port:
        yield f"127.0.0.1:{port}"


def test_what_a_rank_serves_is_read_with_its_labels() -> None:
    metrics = Metrics(run='runs/"a" \\ b', rank=3)
    metrics.set("octoscale_loss", 0.25, term="hll")
    metrics.add("octoscale_steps_total", 7)
    metrics.observe("octoscale_step_seconds", 0.5)
    with served(metrics, host="127.0.0.1", port=0) as port:
        (found,) = scrape([f"127.0.0.1:{port}"], timeout_seconds=5)

    assert found.fault is None
    values = {sample.name: sample for sample in found.samples if "le" not in sample.labels}
    assert values["octoscale_loss"].value == 0.25
    assert values["octoscale_loss"].labels == {"run": 'runs/"a" \\ b', "rank": "3", "term": "hll"}
    assert values["octoscale_steps_total"].value == 7
    assert values["octoscale_step_seconds_sum"].value == 0.5


def test_one_that_does_not_answer_takes_nothing_from_the_others() -> None:
    metrics = Metrics(run="a", rank=0)
    with socket.socket() as unused, served(metrics, host="127.0.0.1", port=0) as port:
        unused.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{unused.getsockname()[1]}"
        first, second = scrape([dead, f"127.0.0.1:{port}"], timeout_seconds=5)

    assert (first.address, first.fault, first.samples) == (dead, "Connection refused", ())
    assert (second.fault, len(second.samples) > 0) == (None, True)


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (503, b"", "HTTP 503"),
        (200, b"<html>hello", "no metrics in its answer"),
        (200, b"\xff\xfe", "no metrics"),
    ],
)
def test_another_server_is_told(status: int, body: bytes, fault: str) -> None:
    with answering(status, body) as address:
        (found,) = scrape([address], timeout_seconds=5)

    assert found.fault is not None
    assert found.fault.startswith(fault)


def test_a_silent_server_is_left_after_the_timeout() -> None:
    over = threading.Event()
    with answering(200, b"", when=over) as address:
        began = time.monotonic()
        (found,) = scrape([address], timeout_seconds=0.2)
        taken = time.monotonic() - began
        over.set()

    assert taken < 60
    assert found.fault == "timed out"


@pytest.mark.parametrize("address", ["no-such-host.invalid:1", "127.0.0.1:99999", "http://[::bad/x", "ftpx://a/b"])
def test_an_address_that_cannot_be_raises_nothing(address: str) -> None:
    (found,) = scrape([address], timeout_seconds=5)

    assert isinstance(found, Scrape)
    assert found.fault


@pytest.mark.parametrize(
    ("address", "url"),
    [("here:9", "http://here:9/metrics"), ("http://here:9/", "http://here:9/metrics"),
     ("https://here/rank/0/metrics", "https://here/rank/0/metrics"), ("[::1]:9", "http://[::1]:9/metrics")],
)  # fmt: skip
def test_an_address_becomes_a_url(address: str, url: str) -> None:
    assert url_of(address) == url


def test_nothing_to_ask() -> None:
    assert scrape([], timeout_seconds=1) == []
    assert parse("") == ()
