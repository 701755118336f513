"""Every number that follows from a configuration, before the first step."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from octoscale.config import Config, parse_config
from octoscale.data.index import Index
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.geometry import Geometry, commit_bytes, possible_geometries
from octoscale.models import load
from octoscale.train import train
from tests.conftest import SmallRun
from tests.unit.models.graphs import Small, write_graph


@pytest.fixture
def config(small_run: SmallRun) -> Any:
    def make(**changes: Any) -> Config:
        return parse_config(small_run("run", **changes), source="of the test")

    return make


def test_without_a_data_set_all_that_does_not_need_it_is_known(config: Any) -> None:
    found = Geometry.derive(config(steps=250, micro_batch_size=3, checkpoint={"every_steps": 100}), 2)

    assert (found.world_size, found.rank_batch_size, found.identities_per_batch) == (2, 8, 8)
    assert (found.chunks, found.passes) == ((3, 3, 2), 2)
    assert (found.steps, found.commits) == (250, 3)
    assert (found.images, found.images_per_epoch, found.steps_per_epoch) == (None, None, None)
    json.dumps(asdict(found), allow_nan=False)


def test_with_a_data_set_epochs_become_steps(config: Any, packed_faces: Path) -> None:
    index = Index.load(packed_faces)
    found = Geometry.derive(config(epochs=3, global_batch_size=10), 1, index)

    # 96 images: nine batches of ten.
    assert (found.images, found.identities, found.image_size) == (96, 24, 32)
    assert (found.steps_per_epoch, found.images_per_epoch) == (9.6, 90)
    assert (found.steps, found.epochs, found.commits) == (27, 3, 1)


def test_what_cannot_be_is_told(config: Any, packed_faces: Path) -> None:
    with pytest.raises(OctoscaleError, match="16 does not divide into whole pairs on 3 ranks"):
        Geometry.derive(config(), 3)
    with pytest.raises(OctoscaleError, match="needs 25 identities"):
        Geometry.derive(config(global_batch_size=50), 1, Index.load(packed_faces))
    with pytest.raises(OctoscaleError, match="no network named 'iresnet51'"):
        Geometry.derive(config(model={"name": "iresnet51"}), 1)


@pytest.mark.parametrize(
    ("checkpoint", "text"),
    [
        ({"every_steps": 2}, "every 2 steps and at the end, 2 in all, about "),
        ({"every_seconds": 600}, "every 600 s and at the end, about "),
        ({"every_steps": "auto"}, "at an interval that follows from their cost and the run's failures and at the end"),
    ],
)
def test_the_commits_are_told(config: Any, checkpoint: dict[str, Any], text: str) -> None:
    settings = config(checkpoint=checkpoint)

    assert any(line.startswith(f"commits   {text}") for line in Geometry.derive(settings, 1).lines(settings))


def test_an_elastic_run_has_a_geometry_for_each_world_size(config: Any) -> None:
    settings = config(resilience={"workers": "2..5"})
    *others, largest = possible_geometries(settings)

    assert [found.world_size for found in (*others, largest)] == [2, 4]
    lines = list(largest.lines(settings, others))
    assert "batch     16 images = 8 identities × 2 = 4 ranks × 4; each image twice, high and low" in lines
    assert "elastic   also 2 × 8" in lines
    assert any(line.startswith("exchange  at most ") for line in lines)


def test_one_rank_exchanges_nothing_and_a_network_of_the_users_own_is_not_guessed(config: Any) -> None:
    assert Geometry.derive(config(), 1).exchange_bytes_per_step == 0
    own = Geometry.derive(config(model={"name": "torch.nn:Identity", "embedding_dim": None}), 2)
    assert (own.exchange_bytes_per_step, own.commit_bytes) == (None, None)


def test_the_length_of_an_embedding_is_found_out_without_weights(config: Any) -> None:
    given = Geometry.derive(config(model={"name": "tiny", "embedding_dim": 64}), 2)
    default = Geometry.derive(config(model={"name": "tiny", "embedding_dim": None}), 2)

    assert given.exchange_bytes_per_step == default.exchange_bytes_per_step
    # Rows are sent as fp32.
    large = Geometry.derive(config(model={"name": "tiny", "embedding_dim": 128}), 2)
    assert large.exchange_bytes_per_step is not None
    assert given.exchange_bytes_per_step is not None
    assert 1.8 < large.exchange_bytes_per_step / given.exchange_bytes_per_step < 2


@pytest.mark.parametrize(("optimizer", "copies"), [("adamw", 3), ("sgd", 2), ("adagrad", 2)])
def test_a_commit_holds_the_weights_and_what_the_optimizer_remembers(config: Any, optimizer: str, copies: int) -> None:
    told = commit_bytes(config(optimizer={"name": optimizer}, model={"name": "tiny", "embedding_dim": 512}))

    weights = sum(parameter.numel() for parameter in load("tiny", embedding_dim=512).parameters())
    assert told == pytest.approx(4 * copies * weights, rel=0.05)


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_a_graph_has_a_geometry_and_is_trained(suffix: str, small_run: SmallRun, tmp_path: Path) -> None:
    graph = write_graph(Small().eval(), tmp_path / f"small{suffix}")
    config = parse_config(
        small_run(tmp_path / "run", model={"name": str(graph), "embedding_dim": None}, steps=1), source="of the test"
    )
    weights = sum(parameter.numel() for parameter in Small().parameters())
    told = commit_bytes(config)
    assert told is not None
    assert 3 * 4 * weights <= told < 3 * 4 * weights + 100

    train(config, World(), quiet=True)

    assert (tmp_path / "run/weights.pt").exists()


def test_a_commit_is_about_as_large_as_told(small_run: SmallRun, tmp_path: Path) -> None:
    config = parse_config(
        small_run(tmp_path / "run", model={"name": "tiny", "embedding_dim": 512}, steps=1), source="of the test"
    )
    told = commit_bytes(config)
    assert told is not None

    train(config, World(), quiet=True)

    written = sum(path.stat().st_size for path in (tmp_path / "run/checkpoints").glob("step-*/*.distcp"))
    # With what torch writes beside each tensor.
    assert told < written < told + 300_000
