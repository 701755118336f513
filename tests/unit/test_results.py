"""The evaluations of a run, as files and pictures."""

from pathlib import Path
from typing import Any

import pytest
import torch

from octoscale.data.storage import Store
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.evaluate.config import EvaluateConfig
from octoscale.evaluate.evaluation import Evaluation
from octoscale.measured import Measured
from octoscale.models import FaceNetwork, load
from octoscale.results import Results
from octoscale.telemetry.goodput import WallLedger
from octoscale.telemetry.metrics import Metrics


@pytest.fixture
def settings(drawn_faces: Path) -> dict[str, Any]:
    verify = drawn_faces / "verify"
    return {"pairs": str(verify / "pairs.txt"), "images": str(verify), "resolutions": [7, 32], "modes": ["same"]}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(run="test", rank=0)


@pytest.fixture
def measured(metrics: Metrics) -> Measured:
    return Measured(metrics, WallLedger(metrics), World())


@pytest.fixture
def network() -> FaceNetwork:
    torch.manual_seed(1)
    return load("tiny", embedding_dim=16)


def results_in(folder: Path, settings: dict[str, Any] | None, measured: Measured) -> Results:
    config = None if settings is None else EvaluateConfig.model_validate(settings)
    return Results(Store(str(folder)), config, World(), measured)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_an_evaluation_is_kept_measured_and_scored(
    tmp_path: Path, settings: dict[str, Any], metrics: Metrics, measured: Measured, network: FaceNetwork
) -> None:
    results = results_in(tmp_path, settings, measured)
    assert results.baseline is None

    score = results.evaluate(network, 0)

    kept = Evaluation.from_json((tmp_path / "evaluations/00000000.json").read_text())
    assert results.baseline == kept
    assert kept.step == 0
    assert score == kept.mean_accuracy("same")
    labels = {"run": "test", "rank": "0", "mode": "same", "resolution": "7"}
    shown = metrics.registry.get_sample_value("octoscale_evaluation_accuracy_ratio", labels)
    assert shown == kept.scores["same", 7].accuracy


def test_the_score_is_that_of_the_first_mode(
    tmp_path: Path, settings: dict[str, Any], measured: Measured, network: FaceNetwork
) -> None:
    results = results_in(tmp_path, {**settings, "modes": ["same", "cross"]}, measured)

    score = results.evaluate(network, 0)

    assert results.baseline is not None
    assert score == results.baseline.mean_accuracy("same") != results.baseline.mean_accuracy("cross")


@pytest.mark.parametrize(
    ("every", "step", "ends", "due"),
    [(None, 4, False, False), (None, 4, True, True), (2, 4, False, True), (2, 3, False, False), (2, 3, True, True)],
)
def test_it_is_evaluated_every_so_many_steps_and_at_the_end(
    tmp_path: Path, settings: dict[str, Any], measured: Measured, network: FaceNetwork,
    every: int | None, step: int, ends: bool, due: bool,
) -> None:  # fmt: skip
    results = results_in(tmp_path, {**settings, "resolutions": [7], "every_steps": every}, measured)

    assert (results.evaluate_if_due(network, step, ends=ends) is not None) == due


@pytest.mark.parametrize("at_start", [True, False])
def test_the_start_is_evaluated_unless_it_is_known(
    tmp_path: Path, settings: dict[str, Any], measured: Measured, network: FaceNetwork, at_start: bool
) -> None:
    results = results_in(tmp_path, {**settings, "resolutions": [7], "at_start": at_start}, measured)

    results.evaluate_at_start(network)

    assert (results.baseline is not None) == at_start


def test_the_end_writes_weights_and_pictures_without_a_second_evaluation(
    tmp_path: Path, settings: dict[str, Any], measured: Measured, network: FaceNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = results_in(tmp_path, settings, measured)
    results.evaluate(network, 0)
    results.evaluate(network, 4)
    monkeypatch.setattr(Results, "evaluate", None)

    final = results.conclude(network, 4)

    assert final is not None
    assert final.step == 4
    pictures = ["accuracy_by_resolution.png", "roc.png"]
    assert names(tmp_path) == [
        pictures[0], "evaluations/00000000.json", "evaluations/00000004.json", pictures[1], "weights.pt"
    ]  # fmt: skip
    assert all((tmp_path / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)
    again = load("tiny", embedding_dim=16, weights=tmp_path / "weights.pt")
    for name, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_a_run_without_evaluation_leaves_its_weights_alone(
    tmp_path: Path, measured: Measured, network: FaceNetwork
) -> None:
    results = results_in(tmp_path, None, measured)

    assert results.evaluate_if_due(network, 4, ends=True) is None
    assert results.conclude(network, 4) is None
    assert results.baseline is None
    assert names(tmp_path) == ["weights.pt"]


@pytest.mark.parametrize("change", [{"resolutions": [14, 32]}, {"resolutions": [7]}, {"modes": ["cross"]}])
def test_a_baseline_of_another_configuration_does_not_stop_the_end(
    tmp_path: Path, settings: dict[str, Any], measured: Measured, network: FaceNetwork, change: dict[str, Any]
) -> None:
    results_in(tmp_path, settings, measured).evaluate(network, 0)

    final = results_in(tmp_path, {**settings, **change}, measured).conclude(network, 4)

    assert final is not None
    assert "roc.png" in names(tmp_path)


def test_a_damaged_baseline_is_named_and_does_not_stop_the_end(
    tmp_path: Path, settings: dict[str, Any], measured: Measured, network: FaceNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    results = results_in(tmp_path, settings, measured)
    results.evaluate(network, 0)
    (tmp_path / "evaluations/00000000.json").write_bytes(b"\xff{")

    assert results.conclude(network, 4) is not None
    assert f"{tmp_path}/evaluations/00000000.json is not an evaluation" in caplog.text


def test_a_network_that_gives_no_numbers_is_a_clear_error_and_no_score(
    tmp_path: Path, settings: dict[str, Any], measured: Measured, network: FaceNetwork
) -> None:
    for parameter in network.parameters():
        parameter.data.fill_(torch.nan)

    with pytest.raises(OctoscaleError, match=r"distances are not finite.*lower the learning rate"):
        results_in(tmp_path, settings, measured).evaluate(network, 4)
    assert names(tmp_path) == []


def test_pairs_that_do_not_exist_are_named_at_the_start(
    tmp_path: Path, settings: dict[str, Any], measured: Measured
) -> None:
    with pytest.raises(OctoscaleError, match=r"absent\.txt"):
        results_in(tmp_path, {**settings, "pairs": str(tmp_path / "absent.txt")}, measured)
