"""The ranks' network, ports and clocks, each well and each broken."""

import http.server
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate

import pytest

from octoscale.data.storage_config import StorageConfig
from octoscale.doctor.network import all_reduce, clock, ports
from octoscale.telemetry.config import TelemetryConfig
from tests.unit.http_server import serving


def test_two_processes_really_sum_over_gloo() -> None:
    check = all_reduce("gloo", 2)

    assert (check.status, check.name) == ("ok", "gloo all-reduce"), check
    assert check.found.startswith("2 processes in ")


def test_a_backend_that_does_not_work_fails_with_its_own_words() -> None:
    check = all_reduce("no-such-backend", 1)

    assert check.status == "failed"
    assert "no-such-backend" in check.found.lower()
    assert check.advice


def test_ranks_that_do_not_meet_in_time_fail() -> None:
    check = all_reduce("gloo", 2, timeout_seconds=0.1)

    assert (check.status, check.found) == ("failed", "2 processes did not meet within 0 s")


def settings(**values: object) -> TelemetryConfig:
    return TelemetryConfig.model_validate(values)


def test_free_ports_are_ok() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]

    assert ports(settings(metrics_port=free), 1).status == "ok"
    assert ports(settings(), 8).found == "any free port of 127.0.0.1"
    assert ports(settings(recorders=["jsonl"]), 8).status == "ok"


def test_a_port_in_use_is_a_warning_that_names_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        check = ports(settings(metrics_port=port - 1), 2)

    assert check.status == "warning"
    # Another program may have the port before it.
    assert re.match(rf"in use on 127\.0\.0\.1: ({port - 1}, )?{port}; ", check.found), check


def test_ports_that_cannot_be_are_failures() -> None:
    check = ports(settings(metrics_host="192.0.2.1", metrics_port=9000), 1)
    assert check.status == "failed"
    assert check.found.startswith("cannot serve on 192.0.2.1: ")

    check = ports(settings(metrics_port=65530), 8)
    assert (check.status, check.found) == ("failed", "rank 7 would serve port 65537")


@contextmanager
def server_that_is(seconds: float, *, status: int = 403) -> Iterator[str]:
    """An HTTP server whose clock is ahead by so many seconds; its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(time.time() + seconds, usegmt=True)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("seconds", "status", "found"),
    [(0, "ok", "within seconds of "), (60, "warning", " s behind "), (-3600, "failed", " s ahead of ")],
)
@pytest.mark.parametrize("code", [200, 403])
def test_the_clock_is_compared_with_the_stores_own(seconds: int, status: str, found: str, code: int) -> None:
    with server_that_is(seconds, status=code) as url:
        check = clock("s3://bucket/run", StorageConfig(endpoint_url=url))

    assert check is not None
    assert check.status == status
    told, _, _ = check.found.partition(found)
    # A Date has whole seconds, and the answer may take some.
    assert (int(told) if told else 0) == pytest.approx(abs(seconds), abs=20), check
    assert found in check.found


def test_a_store_that_does_not_answer_is_a_warning_and_a_folder_has_no_clock(tmp_path: object) -> None:
    check = clock("s3://bucket/run", StorageConfig(endpoint_url="http://127.0.0.1:9"))
    assert check is not None
    assert check.status == "warning"
    assert "does not tell its time" in check.found

    assert clock(str(tmp_path), StorageConfig()) is None
