"""A run on two ranks is the run on one: same samples, same parameters, any world size on resume."""

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from octoscale.build import build_engine, build_network, build_teacher
from octoscale.checkpoint import CheckpointConfig, Checkpoints, Position
from octoscale.config import parse_config
from octoscale.data.storage import Store
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.feed import feed, open_data
from octoscale.journal import read_journal
from octoscale.models import load, save_weights
from octoscale.step import training_step
from octoscale.train import train
from tests.distributed.ranks import loopback, on_ranks


def three_steps_in_double_precision(world: World, values: dict[str, Any]) -> dict[str, Any]:
    config = parse_config(values, source="of the test")
    network = build_network(config, world).double()
    engine = build_engine(config, network, world)
    teacher = build_teacher(config, world)
    results = []
    with feed(config, open_data(config), world, Position()) as batches:
        for planned in islice(batches, 3):
            results.append(
                training_step(
                    planned.batch,
                    engine,
                    config.step,
                    world,
                    seed=config.seed,
                    epoch=0,
                    learning_rate=1e-2,
                    teacher=teacher,
                )
            )
    return {"results": results, "parameters": {name: p.detach() for name, p in network.named_parameters()}}


@pytest.mark.parametrize("distillation", [None, {"high": 2.0, "low": 3.0}])
def test_three_steps_on_two_ranks_equal_three_on_one(
    tmp_path: Path, small_run: Any, distillation: dict[str, float] | None
) -> None:
    torch.manual_seed(1)
    save_weights(load("tiny", embedding_dim=16), tmp_path / "weights.pt")
    values = small_run(
        tmp_path, model={"batch_norm": "frozen", "weights": str(tmp_path / "weights.pt")}, optimizer={"name": "sgd"},
        distillation=distillation,
    )  # fmt: skip
    alone = three_steps_in_double_precision(World(), values)
    first, second = on_ranks(2, three_steps_in_double_precision, values)
    assert first["results"] == second["results"]
    for found, expected in zip(first["results"], alone["results"], strict=True):
        # Reported over the ranks in fp32.
        assert found.loss == pytest.approx(expected.loss, rel=1e-6)
        assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-9)
        assert found.embedding_norm == pytest.approx(expected.embedding_norm, rel=1e-6)
        assert (found.distillation is None) == (distillation is None)
        assert (found.distillation or 0) == pytest.approx(expected.distillation or 0, rel=1e-6)
    for name, expected in alone["parameters"].items():
        assert torch.equal(first["parameters"][name], second["parameters"][name])
        # Sums in another order, three steps long.
        torch.testing.assert_close(first["parameters"][name], expected, rtol=1e-8, atol=1e-12)


def run(world: World, values: dict[str, Any]) -> str:
    return train(parse_config(values, source="of the test"), world, quiet=True).status


def test_a_run_may_change_its_number_of_ranks_when_it_resumes(tmp_path: Path, small_run: Any) -> None:
    def values(name: str, steps: int) -> dict[str, Any]:
        # Not AdamW, which makes much of the smallest gradients' rounding.
        return small_run(tmp_path / name, steps=steps, optimizer={"name": "sgd", "learning_rate": 1e-2})

    run(World(), values("one", 6))
    run(World(), values("grows", 3))
    on_ranks(2, run, values("grows", 6))
    on_ranks(2, run, values("shrinks", 3))
    run(World(), values("shrinks", 6))
    expected = read_journal(Store(str(tmp_path / "one")))
    for name in ("grows", "shrinks"):
        found = read_journal(Store(str(tmp_path / name)))
        assert [line.step for line in found] == [1, 2, 3, 4, 5, 6]
        assert [line.sample_ids_crc32 for line in found] == [line.sample_ids_crc32 for line in expected]
        for line, other in zip(found, expected, strict=True):
            # fp32, summed in another order.
            assert line.result.loss == pytest.approx(other.result.loss, rel=1e-4)


def commit_with_a_fault_on_rank_1(world: World, url: str) -> str:
    class Failing(Store):
        def upload(self, local_path: Path, name: str) -> None:
            raise OSError("no space left on rank 1")

    checkpoints = Checkpoints(url, world, CheckpointConfig())
    if world.rank == 1:
        checkpoints.store = Failing(url)

    state = {"model": {f"weight{number}": torch.ones(64, 64) for number in range(4)}}
    checkpoints.commit(state, Position(step=5), {"identity": {}}, None)
    with pytest.raises(OctoscaleError) as error:
        checkpoints.wait()
    return str(error.value)


def test_a_rank_that_cannot_write_fails_the_commit_on_all_and_nothing_counts(tmp_path: Path) -> None:
    messages = on_ranks(2, commit_with_a_fault_on_rank_1, str(tmp_path))
    assert all("no space left on rank 1" in message for message in messages)
    assert Checkpoints(str(tmp_path), World(), CheckpointConfig()).commits() == []


def test_torchrun_trains_on_two_ranks(tmp_path: Path, small_run: Any) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(small_run(tmp_path / "out", precision="bf16")))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1",
               "--nproc-per-node", "2", "-m", "octoscale.cli", "train", str(file)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": loopback()}
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert "2 ranks × 8" in finished.stderr
    assert [line.step for line in read_journal(Store(str(tmp_path / "out")))] == [1, 2, 3, 4]
