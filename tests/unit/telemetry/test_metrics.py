"""What is served over HTTP, and the table of it in docs/metrics.md."""

import ast
import re
import socket
import struct
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

import octoscale
import octoscale.train
from octoscale.config import parse_config
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.step import StepResult
from octoscale.telemetry.metrics import Metrics, served
from octoscale.telemetry.table import METRICS
from octoscale.train import train
from tests.conftest import SmallRun

TABLE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(run="runs/one", rank=3)


def fetch(port: int) -> list[Sample]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def value(samples: list[Sample], name: str, **labels: str) -> float:
    (found,) = [s.value for s in samples if s.name == name and labels.items() <= s.labels.items()]
    return float(found)


# The endpoint.


def test_the_metrics_are_served_with_run_and_rank_as_long_as_the_block_runs(metrics: Metrics) -> None:
    metrics.observe("octoscale_step_seconds", 0.3)
    metrics.observe("octoscale_step_phase_seconds", 0.1, phase="embed")
    metrics.set("octoscale_loss", 0.5, term="hhh")
    metrics.add("octoscale_samples_total", 8)
    with served(metrics, host="127.0.0.1", port=0) as port:
        samples = fetch(port)
        assert all(sample.labels["run"] == "runs/one" and sample.labels["rank"] == "3" for sample in samples)
        assert value(samples, "octoscale_loss", term="hhh") == 0.5
        assert value(samples, "octoscale_samples_total") == 8
        # Counted from the start.
        assert value(samples, "octoscale_steps_total") == 0
        assert value(samples, "octoscale_step_seconds_bucket", le="0.25") == 0
        assert value(samples, "octoscale_step_seconds_bucket", le="0.5") == 1
        assert value(samples, "octoscale_step_phase_seconds_sum", phase="embed") == 0.1
        assert not any(sample.name.startswith("octoscale_job_") for sample in samples)
    with pytest.raises(OSError):
        fetch(port)


def test_where_the_port_is_in_use_another_one_serves(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        with served(metrics, host="127.0.0.1", port=taken) as port:
            assert port != taken
            assert fetch(port)
    assert f"metrics port {taken} on 127.0.0.1 is in use; serving {port} instead" in caplog.text


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("127.0.0.1", 65536), ("a..b", 0)])
def test_an_address_that_cannot_be_served_is_named(metrics: Metrics, host: str, port: int) -> None:
    with (
        pytest.raises(OctoscaleError, match=rf"cannot serve metrics on {host}:{port}: .*check telemetry.metrics_host"),
        served(metrics, host=host, port=port),
    ):
        pass


def test_the_port_is_free_again_after_an_error(metrics: Metrics) -> None:
    manager = served(metrics, host="127.0.0.1", port=0)
    port = manager.__enter__()
    assert not manager.__exit__(RuntimeError, RuntimeError(), None)
    with served(metrics, host="127.0.0.1", port=port) as again:
        assert again == port


def test_clients_that_connect_and_never_read_hold_nobody_up(metrics: Metrics) -> None:
    for number in range(5000):
        # Far more than the sockets' buffers hold.
        metrics.set("octoscale_loss", 1.0, term=f"{number:0200d}")
    clients = []
    started = time.monotonic()
    with served(metrics, host="127.0.0.1", port=0) as port:
        for request in (b"", b"GET /metr", *[b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n"] * 3):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # Reset when closed, so that the server's thread ends with it.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.connect(("127.0.0.1", port))
            client.sendall(request)
            clients.append(client)
        # The training goes on measuring, and another client is served.
        for _ in range(1000):
            metrics.add("octoscale_steps_total")
        assert value(fetch(port), "octoscale_steps_total") == 1000
    taken = time.monotonic() - started
    for client in clients:
        client.close()
    assert taken < 120


def test_what_others_have_counted_is_taken_over_and_never_falls(metrics: Metrics) -> None:
    for total in (3.0, 5.0, 4.0, 6.0):
        metrics.raise_to("octoscale_storage_requests_total", total, operation="read")
    with served(metrics, host="127.0.0.1", port=0) as port:
        assert value(fetch(port), "octoscale_storage_requests_total", operation="read") == 6


# A run.


def test_a_run_serves_what_its_last_step_gave(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports: list[int] = []
    results: list[StepResult] = []
    seen: list[list[Sample]] = []
    original_step, original_exported = octoscale.train.training_step, octoscale.train.exported

    def step(*arguments: Any, **settings: Any) -> StepResult:
        results.append(original_step(*arguments, **settings))
        return results[-1]

    def noting(*arguments: Any, **settings: Any) -> Any:
        manager = original_exported(*arguments, **settings)

        class Noting:
            def __enter__(self) -> Metrics:
                metrics = manager.__enter__()
                (file,) = (tmp_path / "run/telemetry/targets").glob("*.json")
                ports.append(int(re.findall(r"127\.0\.0\.1:(\d+)", file.read_text())[0]))
                return metrics

            def __exit__(self, *cause: Any) -> bool | None:
                seen.append(fetch(ports[0]))
                return manager.__exit__(*cause)

        return Noting()

    monkeypatch.setattr(octoscale.train, "exported", noting)
    monkeypatch.setattr(octoscale.train, "training_step", step)
    telemetry = {"recorders": ["prometheus"], "diagnose_every_steps": 3, "peak_flops": 1e12}
    values = small_run(tmp_path / "run", telemetry=telemetry, checkpoint={"every_steps": 2})
    train(parse_config(values, source="of the test"), World(), quiet=True)

    (samples,) = seen
    assert value(samples, "octoscale_steps_total") == value(samples, "octoscale_step_seconds_count") == 4
    assert value(samples, "octoscale_steps_skipped_total") == 0
    assert value(samples, "octoscale_samples_total") == value(samples, "octoscale_job_samples_total") == 64
    assert value(samples, "octoscale_step") == 4
    assert value(samples, "octoscale_world_size") == value(samples, "octoscale_attempt") == 1
    assert value(samples, "octoscale_restarts_total") == 0
    phases = {s.labels["phase"]: s.value for s in samples if s.name == "octoscale_step_phase_seconds_sum"}
    assert phases.keys() == {"data_wait", "degrade", "embed", "mine", "loss", "second_pass", "optimizer", "checkpoint"}
    inside = sum(seconds for phase, seconds in phases.items() if phase not in ("data_wait", "checkpoint"))
    assert 0.5 < inside / value(samples, "octoscale_step_seconds_sum") <= 1
    assert value(samples, "octoscale_checkpoint_duration_seconds_count", stage="commit") == 2
    assert value(samples, "octoscale_checkpoint_corrupt_total") == 0
    assert value(samples, "octoscale_checkpoint_last_committed_timestamp_seconds") > 0
    assert value(samples, "octoscale_learning_rate") == 1e-3
    assert value(samples, "octoscale_storage_written_bytes_total", operation="write") > 0
    for term, means in results[-1].terms.items():
        assert value(samples, "octoscale_loss", term=term) == means.loss
        assert value(samples, "octoscale_triplet_active_ratio", term=term) == means.active_fraction
        assert value(samples, "octoscale_triplet_inverted_ratio", term=term) == means.nearer_fraction
    # Measured in the first step and every third after it.
    assert [result.diagnostics is not None for result in results] == [True, False, False, True]
    assert results[-1].diagnostics is not None
    assert value(samples, "octoscale_embedding_effective_rank") == results[-1].diagnostics.effective_rank
    assert value(samples, "octoscale_mfu_ratio") == value(samples, "octoscale_model_flops_per_second") / 1e12 > 0
    wall = {s.labels["state"]: s.value for s in samples if s.name == "octoscale_wall_seconds_total"}
    assert value(samples, "octoscale_goodput_ratio") == pytest.approx(wall["productive"] / sum(wall.values()))
    assert list((tmp_path / "run/telemetry/targets").iterdir()) == []


# The table.


def test_the_documented_table_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| (.+) \|$", TABLE.read_text(), re.MULTILINE)
    documented = [(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in rows]

    assert documented == [(metric.name, metric.kind, metric.labels) for metric in METRICS]


def test_names_follow_the_rules_of_prometheus() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"octoscale_[a-z_]+", metric.name)
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name
        assert not re.search(r"_(ms|kb|mb|minutes|percent)(_|$)", metric.name)
        assert not {"identity", "sample", "attempt"} & set(metric.labels)


def test_every_metric_is_recorded_somewhere_as_what_it_is() -> None:
    kinds = {"set": {"gauge"}, "add": {"counter"}, "raise_to": {"counter"}, "observe": {"histogram"}}
    package = Path(octoscale.__file__).parent
    recorded: dict[str, set[str]] = {}
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in kinds:
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant) and str(first.value).startswith("octoscale_"):
                    recorded.setdefault(str(first.value), set()).update(kinds[node.func.attr])

    assert recorded == {metric.name: {metric.kind} for metric in METRICS}
