"""The network of a configuration, or of a run so far."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from octoscale.checkpoint import CheckpointConfig, Checkpoints
from octoscale.config import parse_config
from octoscale.data.storage_config import StorageConfig
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.models import Preprocessing, load, save_weights
from octoscale.models.network import PreprocessingConfig
from octoscale.train import train
from octoscale.trained import configured_network, load_trained, with_what_weights_say
from tests.conftest import SmallRun


@pytest.fixture
def evaluated(drawn_faces: Path) -> dict[str, Any]:
    verify = drawn_faces / "verify"
    settings = {"pairs": str(verify / "pairs.txt"), "images": str(verify), "resolutions": [7], "modes": ["same"]}
    return {**settings, "every_steps": 1}


@pytest.fixture
def directory(small_run: SmallRun, tmp_path: Path) -> Path:
    """A run of four steps, committed at 2 and 4."""
    values = small_run(tmp_path / "run", checkpoint={"every_steps": 2})
    train(parse_config(values, source="of the test"), World(), quiet=True)
    return tmp_path / "run"


def test_a_runs_directory_gives_the_weights_that_it_ended_with(directory: Path) -> None:
    trained = load_trained(str(directory))

    assert trained.step == 4
    assert trained.config.global_batch_size == 16
    final = torch.load(directory / "weights.pt", weights_only=True)
    state = trained.network.backbone.state_dict()
    assert state.keys() == final.keys()
    assert all(torch.equal(state[name], value) for name, value in final.items())


def test_its_checkpoints_give_the_same(directory: Path) -> None:
    assert load_trained(f"{directory}/checkpoints/").step == 4


def test_a_run_that_keeps_its_checkpoints_elsewhere_is_found(small_run: SmallRun, tmp_path: Path) -> None:
    values = small_run(tmp_path / "run", checkpoint={"url": str(tmp_path / "elsewhere")})
    train(parse_config(values, source="of the test"), World(), quiet=True)

    assert load_trained(str(tmp_path / "run")).step == 4


def test_overrides_win_over_a_file_and_over_what_a_run_recorded(
    small_run: SmallRun, tmp_path: Path, directory: Path
) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(small_run(tmp_path)))

    for target in (tmp_path / "run.yaml", directory):
        assert load_trained(str(target), ["seed=5", "data.url=elsewhere"]).config.seed == 5


@pytest.mark.parametrize("override", ["model.name=mobilefacenet", "model={name: tiny, embedding_dim: 16}"])
def test_another_model_for_a_runs_network_is_refused(override: str, directory: Path) -> None:
    with pytest.raises(OctoscaleError, match=rf"{re.escape(override)}' would change the network that the run"):
        load_trained(str(directory), [override])


def test_settings_of_storage_leave_the_runs_other_ones(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For its data set, and for commits that are where its configuration says."""
    own = {"timeout_seconds": 7.0, "connections": 3}
    values = small_run(tmp_path / "run", checkpoint={"url": str(tmp_path / "elsewhere")}, storage=own)
    train(parse_config(values, source="of the test"), World(), quiet=True)
    reached = {}

    def noted(url: str, world: World, config: CheckpointConfig, storage: StorageConfig | None) -> Checkpoints:
        reached[url] = storage
        return Checkpoints(url, world, config, storage)

    monkeypatch.setattr("octoscale.trained.Checkpoints", noted)
    given = StorageConfig(connections=4)
    both = StorageConfig(timeout_seconds=7.0, connections=4)
    assert load_trained(str(tmp_path / "run"), storage=given).config.storage == both
    assert reached[str(tmp_path / "elsewhere")] == both


def test_a_runs_configuration_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(OctoscaleError, match=rf"{tmp_path}/config\.yaml is not valid YAML"):
        load_trained(str(tmp_path))


def test_a_configuration_gives_the_network_before_training(
    small_run: SmallRun, tmp_path: Path, directory: Path
) -> None:
    values = small_run(tmp_path, model={"weights": str(directory / "weights.pt")})
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))

    trained = load_trained(str(tmp_path / "run.yaml"))

    assert trained.step == 0
    final = torch.load(directory / "weights.pt", weights_only=True)
    assert all(torch.equal(trained.network.backbone.state_dict()[name], value) for name, value in final.items())


def test_the_best_commit_is_the_one_with_the_highest_score_and_the_oldest_of_equals(
    small_run: SmallRun, tmp_path: Path, evaluated: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.0, 0.5, 0.75, 0.75, 0.25])
    monkeypatch.setattr("octoscale.results.Results.evaluate", lambda self, network, step: next(scores))
    values = small_run(tmp_path / "run", evaluate=evaluated, checkpoint={"keep_last": 9})
    monkeypatch.setattr("octoscale.results.Results.conclude", lambda self, network, step, whole: None)
    train(parse_config(values, source="of the test"), World(), quiet=True)

    assert load_trained(str(tmp_path / "run"), best=True).step == 2
    assert load_trained(str(tmp_path / "run")).step == 4


def test_a_run_that_was_never_evaluated_has_no_best(directory: Path) -> None:
    with pytest.raises(OctoscaleError, match="holds no evaluated checkpoint; give a run's directory"):
        load_trained(str(directory), best=True)


@pytest.mark.parametrize(("which", "text"), [({"best": True}, "--best"), ({"step": 2}, "--step 2")])
def test_a_commit_of_a_configuration_is_refused(
    which: dict[str, Any], text: str, small_run: SmallRun, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(small_run(tmp_path)))
    with pytest.raises(OctoscaleError, match=rf"{text} is of a run's commits, and .*run\.yaml is a configuration"):
        load_trained(str(tmp_path / "run.yaml"), **which)


def test_two_commits_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match="--step and --best name two commits"):
        load_trained(str(tmp_path), best=True, step=2)


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_a_place_without_checkpoints_is_named_with_what_to_give(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(OctoscaleError, match=rf"{name} holds no checkpoint; give a run's directory.*\.yaml"):
        load_trained(str(tmp_path / name))
    assert not (tmp_path / "absent").exists()


def test_a_weights_file_is_refused_with_what_to_give(directory: Path) -> None:
    with pytest.raises(OctoscaleError, match=r"weights\.pt is a file; give a run's directory, or a configuration"):
        load_trained(str(directory / "weights.pt"))


def test_a_damaged_commit_is_not_replaced_in_silence(directory: Path) -> None:
    for part in (directory / "checkpoints").glob("step-00000004-*/*.distcp"):
        part.write_bytes(b"")

    with pytest.raises(OctoscaleError, match=r"step 4 in .* is damaged \(.*\); train on"):
        load_trained(str(directory))


def test_what_weights_were_trained_with_stays_with_the_run(small_run: SmallRun, tmp_path: Path) -> None:
    """Its evaluations, its resumed attempts and the files that it leaves behind need no settings."""
    theirs = Preprocessing(mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0), color="bgr")
    start = load("tiny", embedding_dim=16, preprocessing=theirs, batch_norm_epsilon=2e-5)
    save_weights(start, tmp_path / "start.pt")
    values = small_run(tmp_path / "run", model={"weights": str(tmp_path / "start.pt")})

    train(parse_config(values, source="of the test"), World(), quiet=True)

    (tmp_path / "start.pt").unlink()
    left = load("tiny", embedding_dim=16, weights=tmp_path / "run" / "weights.pt")
    for network in (load_trained(str(tmp_path / "run")).network, left):
        assert network.preprocessing == theirs
        assert network.backbone.bn.eps == 2e-5
    assert "color: bgr" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_part_of_the_preprocessing_leaves_the_rest_as_the_weights_say(small_run: SmallRun, tmp_path: Path) -> None:
    theirs = Preprocessing(mean=(1.0, 2.0, 3.0), std=(255.0, 255.0, 255.0))
    save_weights(load("tiny", embedding_dim=16, preprocessing=theirs), tmp_path / "start.pt")
    for weights, expected in ((str(tmp_path / "start.pt"), theirs), (None, Preprocessing())):
        values = small_run(tmp_path / "run", model={"weights": weights, "preprocessing": {"color": "bgr"}})
        config = parse_config(values, source="of the test")
        network = configured_network(config, config.model.weights)
        assert network.preprocessing == replace(expected, color="bgr")
        written = with_what_weights_say(config).model.preprocessing
        assert written == PreprocessingConfig(mean=expected.mean, std=expected.std, color="bgr")


def test_a_run_may_keep_fewer_activations(small_run: SmallRun, tmp_path: Path) -> None:
    weights = []
    for kept in (False, True):
        directory = tmp_path / str(kept)
        values = small_run(directory, model={"activation_checkpointing": not kept}, micro_batch_size=6)
        train(parse_config(values, source="of the test"), World(), quiet=True)
        weights.append(torch.load(directory / "weights.pt", weights_only=True))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
