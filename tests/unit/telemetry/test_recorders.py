"""The files that keep metrics step by step, and how they are asked for."""

import json
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from octoscale.errors import OctoscaleError
from octoscale.telemetry.config import TelemetryConfig
from octoscale.telemetry.export import exported
from octoscale.telemetry.metrics import Metrics
from octoscale.telemetry.recorders import JsonLines


def record_three_steps(folder: Path, *recorders: Any) -> None:
    config = TelemetryConfig(recorders=recorders)
    with exported(config, run="test", run_folder=folder, rank=0, world_size=1) as metrics:
        for step in (1, 2, 3):
            metrics.set("octoscale_loss", step / 2, term="hhh")
            metrics.add("octoscale_samples_total", 8)
            metrics.observe("octoscale_step_phase_seconds", 0.25, phase="embed")
            metrics.observe("octoscale_step_phase_seconds", 0.5, phase="embed")
            metrics.end_step(step)


def test_json_lines_hold_what_changed_in_each_step(tmp_path: Path) -> None:
    record_three_steps(tmp_path, "jsonl")
    lines = [json.loads(text) for text in (tmp_path / "telemetry/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[0]["octoscale_world_size"] == 1
    assert lines[2].keys() == {
        "step", "time", "octoscale_loss/hhh", "octoscale_samples_total", "octoscale_step_phase_seconds/embed",
    }  # fmt: skip
    assert (lines[2]["octoscale_loss/hhh"], lines[2]["octoscale_samples_total"]) == (1.5, 24)
    assert lines[2]["octoscale_step_phase_seconds/embed"] == 0.75


def test_a_second_attempt_writes_on(tmp_path: Path) -> None:
    record_three_steps(tmp_path, "jsonl")
    record_three_steps(tmp_path, "jsonl")
    assert len((tmp_path / "telemetry/metrics.jsonl").read_text().splitlines()) == 6


def test_tensorboard_finds_every_value(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    record_three_steps(tmp_path, "tensorboard", "jsonl")
    (path,) = (tmp_path / "telemetry/tensorboard").iterdir()
    data, found, at = path.read_bytes(), [], 0
    # A record: its length, a checksum of that, its bytes, a checksum of these.
    while at < len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + size])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        at += 16 + size
    assert [(step, value) for step, tag, value in found if tag == "octoscale_loss/hhh"] == [
        (1, 0.5),
        (2, 1.0),
        (3, 1.5),
    ]
    assert (3, "octoscale_samples_total", 24) in found


def test_a_recorder_whose_package_is_missing_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(OctoscaleError, match=r"needs tensorboardX: pip install 'octoscale\[tensorboard\]'"):
        record_three_steps(tmp_path, "tensorboard")


def test_a_file_recorder_of_a_remote_run_needs_a_folder() -> None:
    manager = exported(TelemetryConfig(recorders=("jsonl",)), run="s3://b/run", run_folder=None, rank=0, world_size=1)
    with pytest.raises(OctoscaleError, match=r"jsonl, .* the run's directory is remote: set telemetry\.folder"):
        manager.__enter__()


def test_the_other_ranks_write_no_files(tmp_path: Path) -> None:
    config = TelemetryConfig(recorders=("jsonl",))
    with exported(config, run="test", run_folder=tmp_path, rank=1, world_size=2) as metrics:
        metrics.end_step(1)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = TelemetryConfig(recorders=("jsonl",), folder=str(tmp_path / "file"))
    manager = exported(config, run="test", run_folder=None, rank=0, world_size=1)
    with pytest.raises(OctoscaleError, match=r"cannot write the metrics to .*file: .*set telemetry\.folder"):
        manager.__enter__()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_ends_the_file_and_not_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    metrics = Metrics(run="test", rank=0, recorders=[recorder := JsonLines(tmp_path)])
    for step in (1, 2):
        metrics.set("octoscale_step", step)
        metrics.end_step(step)
    recorder.close()
    assert caplog.text.count("metrics.jsonl ends at step 1: No space left on device") == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recorders": ["jsonl", "jsonl"]}, "each recorder once"),
        ({"recorders": ["jsonl"], "metrics_port": 9000}, "metrics_port belongs to recorders"),
        ({"recorders": [], "peak_flops": 1e12}, "peak_flops applies where metrics are recorded"),
        ({"recorders": ["csv"]}, "'prometheus', 'tensorboard', 'jsonl', 'wandb' or 'mlflow'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TelemetryConfig(**settings)
