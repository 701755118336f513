"""The command: all checks in a line each, and an exit code."""

import json
from pathlib import Path
from typing import Any

import pytest

from octoscale.doctor import network
from octoscale.doctor.check import Check
from octoscale.errors import OctoscaleError
from tests.unit.commands import Octoscale, refused


@pytest.fixture(autouse=True)
def _without_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    # They take seconds, and have tests of their own.
    monkeypatch.setattr(network, "collectives", lambda: iter([Check("gloo all-reduce", "ok", "2 processes")]))


def test_a_run_that_lacks_nothing(call: Octoscale, write: Any, tmp_path: Path) -> None:
    answer = call("doctor", write(checkpoint={"url": str(tmp_path / "commits")}), "--json")

    events = [json.loads(line) for line in answer.out.splitlines()]
    checks = {event["name"]: event for event in events if event["event"] == "check"}
    for name in ("versions", "gloo all-reduce", "open files", "metrics ports", "geometry", "data.url", "directory",
                 "checkpoint.url", "run's disk"):  # fmt: skip
        assert name in checks
    assert [check for check in checks.values() if check["status"] == "failed"] == []
    assert events[-1]["event"] == "doctor"
    assert events[-1]["failed"] == 0
    assert answer.code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.yaml"]


def test_what_would_stop_the_run_is_told_with_what_to_do(call: Octoscale, write: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    answer = call("doctor", write(), f"directory={tmp_path / 'file/run'}", "global_batch_size=50", "--quiet")

    assert answer.code == 1
    assert f"failed   directory          cannot write {tmp_path / 'file/run'}" in answer.out
    assert "failed   geometry           global_batch_size 50 needs 25 identities, the data set has 24" in answer.out
    assert f"{'':27} do: choose at most 48\n" in answer.out
    assert "ok       versions" not in answer.out
    assert answer.out.splitlines()[-1].endswith("2 failed")


def test_a_machine_can_be_examined_without_a_run(call: Octoscale) -> None:
    answer = call("doctor")

    assert answer.code == 0
    assert "ok       versions" in answer.out
    assert "data.url" not in answer.out


def test_a_configuration_that_does_not_fit_is_told(call: Octoscale, write: Any) -> None:
    refused(call("doctor", write(), "loss.margn=1"), "did you mean loss.margin?")


def test_a_ray_cluster_that_does_not_answer_fails(call: Octoscale) -> None:
    pytest.importorskip("ray")
    answer = call("doctor", "--address", "127.0.0.1:9")

    assert answer.code == 1
    assert "failed   ray                no Ray cluster at 127.0.0.1:9" in answer.out


def test_our_errors_become_what_is_wrong_and_what_to_do() -> None:
    check = Check.failed("x", OctoscaleError("the bucket is gone; make it; or another"))

    assert (check.found, check.advice) == ("the bucket is gone", "make it; or another")
