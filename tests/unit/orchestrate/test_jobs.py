"""The client of a job server: what it sends, byte for byte, and how it tells what is wrong."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from octoscale.config import parse_config
from octoscale.orchestrate.submission import plan_job
from tests.unit.commands import Octoscale, refused

pytest.importorskip("ray")

from octoscale.orchestrate.jobs import _Log


class Recorder(ThreadingHTTPServer):
    """Takes what a client sends to a job server, and has no job."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, str, bytes]] = []
        self.status = 200
        self.broken = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Recorder

    def do_GET(self) -> None:
        answers = {"/api/version": {"version": "4", "ray_version": "2.60.0"}, "/api/jobs/": []}
        if self.path == "/api/jobs/" and self.server.broken:
            self._answer(500, "first line\nthe last line")
            return
        known = self.path in answers
        self._answer(self.server.status if known else 404, answers.get(self.path))

    def do_PUT(self) -> None:
        self._record()
        self._answer(200, {})

    def do_POST(self) -> None:
        body = json.loads(self._record())
        self._answer(200, {"job_id": body["submission_id"], "submission_id": body["submission_id"]})

    def _record(self) -> bytes:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.command, self.path, body))
        return body

    def _answer(self, status: int, document: Any) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def file(small_run: Any, tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(small_run("s3://bucket/runs/tiny", data={"url": "s3://bucket/faces"})))
    return path


def test_a_dry_run_shows_what_is_then_sent_and_sends_nothing(call: Octoscale, recorder: Recorder, file: Path) -> None:
    options = ["--workers", "2", "--env", "REGION=north", "--secret", "ELSEWHERE", "--address", recorder.url]

    shown = call("submit", file, "seed=9", *options, "--dry-run")
    assert shown.code == 0, shown
    assert recorder.received == []
    answer = call("submit", file, "seed=9", *options, "--detach")
    assert answer.code == 0, answer

    (put, uploaded, package), (post, path, body) = recorder.received
    document = json.loads(shown.out)
    assert (post, path, json.loads(body)) == ("POST", "/api/jobs/", document["request"])
    uri = document["request"]["runtime_env"]["working_dir"]
    assert (put, uploaded) == ("PUT", f"/api/packages/gcs/{uri.removeprefix('gcs://')}")
    config = parse_config(yaml.safe_load(document["config"]), source="shown")
    assert config.seed == 9
    assert config.resilience.workers == "2"
    assert package == plan_job(config).package
    assert f"jobs stop {document['request']['submission_id']} --address {recorder.url}" in answer.err


def test_nothing_is_left_behind(
    call: Octoscale, recorder: Recorder, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))

    assert call("submit", file, "--address", recorder.url, "--detach").code == 0

    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    "address",
    ["auto", "127.0.0.1:8265", "ray://127.0.0.1:10001", "http://", "http://host:0", "http://host:99999", "http://[x"],
)
def test_an_address_that_is_none_is_told(call: Octoscale, file: Path, address: str) -> None:
    refused(call("submit", file, "--address", address), "http://HOST:PORT", address)


def test_a_password_in_the_address_is_not_shown(call: Octoscale) -> None:
    answer = call("jobs", "list", "--address", "http://me:word@127.0.0.1:99999")

    refused(answer, "the address holds a user")
    assert "word" not in answer.err


def test_nobody_at_the_address_is_told_within_seconds(call: Octoscale) -> None:
    start = time.monotonic()
    refused(
        call("jobs", "list", "--address", "http://127.0.0.1:1"), "no answer from a Ray cluster at http://127.0.0.1:1"
    )
    # Most of it is the import of Ray's client; a server that is waited for takes a minute.
    assert time.monotonic() - start < 50


@pytest.mark.parametrize("status", [401, 403])
def test_a_cluster_that_wants_a_token_is_told(call: Octoscale, recorder: Recorder, status: int) -> None:
    recorder.status = status

    refused(call("jobs", "list", "--address", recorder.url), "refuses this user", "RAY_AUTH_MODE=token")


def test_another_server_is_told(call: Octoscale, recorder: Recorder) -> None:
    recorder.status = 404

    refused(call("jobs", "list", "--address", recorder.url), "not as a Ray cluster's job server")


def test_an_error_of_the_server_is_told_in_one_line(call: Octoscale, recorder: Recorder) -> None:
    recorder.broken = True

    answer = call("jobs", "list", "--address", recorder.url)

    refused(answer, f"{recorder.url} answers with 500: ")


def test_a_path_that_every_node_must_see_is_told(call: Octoscale, recorder: Recorder, file: Path) -> None:
    answer = call("submit", file, "data.url=/mnt/faces", "--address", recorder.url, "--dry-run")

    assert answer.code == 0
    assert "data.url is the path /mnt/faces: every node of the cluster must see the same files there" in answer.err
    json.loads(answer.out)


def test_resubmissions_need_somebody_who_follows(call: Octoscale, recorder: Recorder, file: Path) -> None:
    answer = call("submit", file, "--address", recorder.url, "--detach", "--max-resubmissions", "1")

    refused(answer, "--max-resubmissions follows the job")


def test_a_job_that_the_cluster_does_not_have_is_told(call: Octoscale, recorder: Recorder) -> None:
    refused(call("jobs", "status", "absent", "--address", recorder.url), "has no job 'absent'; its newest: none")


def test_a_log_that_is_read_again_is_written_once() -> None:
    written: list[str] = []
    log = _Log(written.append)
    for chunks in (["one\n", "two\n"], ["on", "e\ntwo\nthr"], ["one\ntwo\nthree\n"], ["one\n"]):
        log.start()
        for chunk in chunks:
            log.take(chunk)

    assert "".join(written) == "one\ntwo\nthree\n"
