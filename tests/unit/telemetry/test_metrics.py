"""What is served over HTTP, and the table of it in docs/metrics.md."""

import re
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

import octoscale.train
from octoscale.config import parse_config
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.step import StepResult
from octoscale.telemetry.metrics import Metrics, served
from octoscale.train import train
from tests.conftest import SmallRun

TABLE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


@pytest.fixture
def metrics() -> Metrics:
    """With a value in every metric."""
    metrics = Metrics(run="runs/one", rank=3, version="1.2.3")
    metrics.record_term("hhh", loss=0.5, active=0.25, positive_distance=1.0, negative_distance=2.0)
    metrics.record_accuracy("cross", 7, 0.875)
    return metrics


def fetch(address: str) -> list[Sample]:
    with urllib.request.urlopen(address) as answer:
        text = answer.read().decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def value(samples: list[Sample], name: str, **labels: str) -> float:
    (found,) = [s.value for s in samples if s.name == name and labels.items() <= s.labels.items()]
    return float(found)


def test_the_metrics_are_served_with_run_and_rank_as_long_as_the_block_runs(metrics: Metrics) -> None:
    metrics.step_seconds.observe(0.3)
    with served(metrics, host="127.0.0.1", port=0) as address:
        samples = fetch(address)
        assert all(sample.labels["run"] == "runs/one" and sample.labels["rank"] == "3" for sample in samples)
        assert value(samples, "octoscale_loss", term="hhh") == 0.5
        assert value(samples, "octoscale_triplet_active_ratio", term="hhh") == 0.25
        assert value(samples, "octoscale_evaluation_accuracy_ratio", mode="cross", resolution="7") == 0.875
        assert value(samples, "octoscale_step_seconds_bucket", le="0.25") == 0
        assert value(samples, "octoscale_step_seconds_bucket", le="0.5") == 1
        assert value(samples, "octoscale_build_info", version="1.2.3") == 1
    with pytest.raises(OSError):
        fetch(address)


def test_a_port_in_use_is_named_with_what_to_do(metrics: Metrics) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with (
            pytest.raises(OctoscaleError, match=rf"metrics port {port} on 127\.0\.0\.1 is in use; choose another"),
            served(metrics, host="127.0.0.1", port=port),
        ):
            pass


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("127.0.0.1", 65536), ("a..b", 0)])
def test_an_address_that_cannot_be_served_is_named(metrics: Metrics, host: str, port: int) -> None:
    with (
        pytest.raises(OctoscaleError, match=rf"cannot serve metrics on {host}:{port}: .*check telemetry.metrics_host"),
        served(metrics, host=host, port=port),
    ):
        pass


def test_the_port_is_free_again_after_an_error(metrics: Metrics) -> None:
    with pytest.raises(RuntimeError), served(metrics, host="127.0.0.1", port=0) as address:
        raise RuntimeError
    port = int(address.split(":")[2].split("/")[0])
    with served(metrics, host="127.0.0.1", port=port):
        pass


def test_a_run_serves_its_steps_samples_loss_and_active_share(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses: list[str] = []
    seen: list[list[Sample]] = []
    original_served, original_step = octoscale.train.served, octoscale.train.training_step

    def noting(*arguments: Any, **settings: Any) -> Any:
        manager = original_served(*arguments, **settings)

        class Noting:
            def __enter__(self) -> str:
                addresses.append(manager.__enter__())
                return addresses[0]

            def __exit__(self, *cause: Any) -> bool | None:
                seen.append(fetch(addresses[0]))
                return manager.__exit__(*cause)

        return Noting()

    results: list[StepResult] = []

    def step(*arguments: Any, **settings: Any) -> StepResult:
        results.append(original_step(*arguments, **settings))
        return results[-1]

    monkeypatch.setattr(octoscale.train, "served", noting)
    monkeypatch.setattr(octoscale.train, "training_step", step)
    values = small_run(tmp_path / "run", telemetry={"metrics": True}, checkpoint={"every_steps": 2})
    train(parse_config(values, source="of the test"), World(), quiet=True)

    (samples,) = seen
    assert value(samples, "octoscale_steps_total") == value(samples, "octoscale_step_seconds_count") == 4
    assert value(samples, "octoscale_steps_skipped_total") == 0
    assert value(samples, "octoscale_samples_total") == 64
    assert value(samples, "octoscale_step") == 4
    assert value(samples, "octoscale_step_seconds_sum") > 0
    assert value(samples, "octoscale_checkpoint_duration_seconds_count", stage="stall") == 2
    assert value(samples, "octoscale_checkpoint_corrupt_total") == 0
    assert value(samples, "octoscale_checkpoint_last_committed_timestamp_seconds") > 0
    assert value(samples, "octoscale_learning_rate") == 1e-3
    for term, means in results[-1].terms.items():
        assert value(samples, "octoscale_loss", term=term) == means.loss
        assert value(samples, "octoscale_triplet_active_ratio", term=term) == means.active_fraction


def test_the_table_lists_every_metric_with_its_type_and_labels(metrics: Metrics) -> None:
    served_now = set()
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        if family.name.endswith("_created"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"run", "rank", "le"}
        served_now.add((name, family.type, frozenset(labels)))
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| (.+) \|$", TABLE.read_text(), re.MULTILINE)

    assert {(name, kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in rows} == served_now
    assert len(rows) == len(served_now)
