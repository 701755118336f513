"""What ranks tell each other, and that they always are one network."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from octoscale.build import build_network
from octoscale.checkpoint import CheckpointConfig, Checkpoints
from octoscale.config import parse_config
from octoscale.distributed.world import World
from octoscale.evaluate.evaluation import Evaluation, Verification
from octoscale.train import train
from octoscale.trained import load_trained
from tests.distributed.ranks import loopback, on_ranks


def conversation(world: World) -> dict[str, Any]:
    return {
        "mean": world.mean([float(world.rank), 4.0]),
        "one": world.any(world.rank == 1),
        "none": world.any(False),
        "gather": world.gather({"rank": world.rank}),
        "broadcast": world.broadcast(f"from {world.rank}"),
    }


def test_every_rank_hears_the_same() -> None:
    expected = {
        "mean": [0.5, 4.0],
        "one": True,
        "none": False,
        "gather": [{"rank": 0}, {"rank": 1}],
        "broadcast": "from 0",
    }
    assert on_ranks(2, conversation) == [expected] * 2


def test_a_single_process_talks_to_itself() -> None:
    assert conversation(World()) == {
        "mean": [0.0, 4.0], "one": False, "none": False, "gather": [{"rank": 0}], "broadcast": "from 0",
    }  # fmt: skip


def trained_and_evaluated(world: World, values: dict[str, Any]) -> dict[str, Any]:
    """A run with batch norm that trains; then every rank's own network, and its evaluation by all ranks."""
    networks: list[torch.nn.Module] = []
    original = build_network

    def remembering(*arguments: Any) -> Any:
        networks.append(original(*arguments))
        return networks[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("octoscale.train.build_network", remembering)
        config = parse_config(values, source="of the test")
        train(config, world, quiet=True)
    assert config.evaluate is not None
    evaluation = Verification.load(config.evaluate).evaluate(networks[0], world)
    return {"state": networks[0].state_dict(), "evaluation": evaluation.to_json()}


def test_batch_norm_that_trains_is_one_network_on_all_ranks(tmp_path: Path, drawn_faces: Path, small_run: Any) -> None:
    verify = drawn_faces / "verify"
    evaluate = {"pairs": str(verify / "pairs.txt"), "images": str(verify), "resolutions": [7, 32]}
    values = small_run(tmp_path / "run", model={"batch_norm": "chunk"}, evaluate=evaluate)
    first, second = on_ranks(2, trained_and_evaluated, values)

    assert first["evaluation"] == second["evaluation"]
    for name, tensor in first["state"].items():
        assert torch.equal(tensor, second["state"][name]), name
    together = Evaluation.from_json(first["evaluation"])
    # And it is what was committed: loaded and evaluated by one process, it scores the same.
    trained = load_trained(str(tmp_path / "run"))
    assert trained.config.evaluate is not None
    for name, tensor in trained.network.state_dict().items():
        assert torch.equal(tensor, first["state"][name]), name
    alone = Verification.load(trained.config.evaluate).evaluate(trained.network, World())
    assert alone.scores.keys() == together.scores.keys()
    for key, score in alone.scores.items():
        assert score.accuracy == together.scores[key].accuracy
        # Sums in batches of another size: fp32 rounding of distances, which may swap two neighbours on the curve.
        assert score.area_under_curve == pytest.approx(together.scores[key].area_under_curve, abs=1e-3)
    assert alone.mean_embedding_norm == pytest.approx(together.mean_embedding_norm, rel=1e-6)


def test_sigterm_to_torchrun_commits_and_the_run_goes_on(tmp_path: Path, small_run: Any) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(small_run(tmp_path / "out", steps=1_000_000, checkpoint={"every_steps": 1_000_000})))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1",
               "--nproc-per-node", "2", "-m", "octoscale.cli", "train", str(file)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": loopback()}
    process = subprocess.Popen(
        [*command, "telemetry.log_every_steps=1"], stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stderr is not None
    try:
        while "step 3 " not in (line := process.stderr.readline()):
            assert line or process.poll() is None, "the run ended before its third step"
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=120)
    finally:
        process.kill()
    # torchrun's own end is a failure to it; what counts is that the ranks committed together, once.
    assert process.returncode != 0
    assert "is committed; start the same run again to go on" in told
    (commit,) = Checkpoints(str(tmp_path / "out" / "checkpoints"), World(), CheckpointConfig()).commits()
    assert commit.step >= 3
